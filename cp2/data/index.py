"""What a prepared data set's folder says about itself: dataset.json and index.csv."""

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from pydantic import Field

from cp2.data.members import changed_archive
from cp2.errors import UserError, WrongFile, reading
from cp2.record.files import write_text
from cp2.settings.base import Settings
from cp2.settings.datasets import OWN_FOLDER

RECORD = "dataset.json"
INDEX = "index.csv"
_COLUMNS = ["split", "image", "label"]
T = TypeVar("T")


class Split(Settings):
    """One split's size; of labelled ones, pixels by class, in train-id order, and ignored ones."""

    images: int
    pixels: tuple[int, ...] | None = None  # None: unlabelled, or written before they were counted
    ignored: int | None = None


class UsedArchive(Settings):
    """An archive as it was used: its hash as given, or its measured SHA-256."""

    file: str
    hash: str


class DatasetRecord(Settings):
    """Content of dataset.json, which is written last: where it is, the data set is complete."""

    name: str
    kind: str
    title: str
    digest: str  # of the settings; another one means that the data set must be made again
    splits: dict[str, Split]
    classes: tuple[str, ...] | None
    palette: tuple[tuple[int, int, int], ...] | None
    archives: tuple[UsedArchive, ...]
    created: str  # ISO 8601, UTC
    index_sha256: str | None = None  # of index.csv; None: written before this was noted
    root: str | None = None  # the user's folder, which absolute paths stay in; None: likewise
    left_out: dict[str, int] = Field(default_factory=dict)  # reason -> files
    notes: tuple[str, ...] = ()  # what its maker was told


class Item(NamedTuple):
    """One image. Paths are POSIX, relative to the data set's folder, or absolute in the user's."""

    split: str
    image: str
    label: str = ""  # empty: unlabelled


@dataclass(frozen=True)
class DatasetIndex:
    """A prepared data set: its record and where its images are."""

    folder: Path
    record: DatasetRecord
    items: tuple[Item, ...]

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names in train-id order; None for unlabelled sets."""
        return self.record.classes

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...] | None:
        """RGB colours, 0..255, in train-id order; None for unlabelled sets."""
        return self.record.palette

    @property
    def pretraining_split(self) -> str:
        """The split that pretraining learns from: all images where the set says which."""
        return "unlabelled" if "unlabelled" in self.record.splits else "train"

    def paths(self, split: str) -> list[Path]:
        """Images of a split, sorted by name, to be read.

        Raises:
            UserError: there is no such split, or an archive that images lie in has changed.
        """
        paths = self.names(split)
        if archive := changed_archive(paths):
            raise UserError(
                f"{archive} has changed since data set {self.record.name} was prepared from it; "
                f"delete {self.folder} to have it prepared again"
            )
        return paths

    def names(self, split: str) -> list[Path]:
        """What `paths` returns, of images that need not be there any more.

        Raises:
            UserError: there is no such split.
        """
        return [self.folder / item.image for item in self._of(split)]

    def labels(self, split: str) -> list[Path]:
        """Label pictures, or XML files of objects, in the order of `paths`.

        Raises:
            UserError: there is no such split, or it has no labels.
        """
        items = self._of(split)
        if not all(item.label for item in items):
            raise UserError(
                f"data set {self.record.name} has no labels in split {split}; "
                "it can serve for pretraining only"
            )
        return [self.folder / item.label for item in items]

    @property
    def image_labels(self) -> bool:
        """Whether an image as a whole has a class."""
        return self.record.kind == "folders"

    def image_classes(self, split: str) -> list[int]:
        """The class of each image by its folder, where `image_labels`, in the order of `paths`."""
        base, classes = Path(self.record.root or "") / split, self.classes or ()
        folders = (path.relative_to(base).parts[0] for path in self.paths(split))
        return [classes.index(folder) for folder in folders]

    def _of(self, split: str) -> list[Item]:
        if split not in self.record.splits:
            raise UserError(
                f"data set {self.record.name} has no split {split!r}; "
                f"it has {', '.join(self.record.splits)}"
            )
        return [item for item in self.items if item.split == split]


def write_index(folder: Path, items: Iterable[Item]) -> str:
    """Write index.csv; returns its SHA-256 for the record."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(items)
    write_text(folder / INDEX, text.getvalue())
    return hashlib.sha256(text.getvalue().encode()).hexdigest()


def write_record(folder: Path, record: DatasetRecord) -> None:
    """Write dataset.json. Everything else of the data set must be in its place by then."""
    write_text(folder / RECORD, record.model_dump_json(indent=2) + "\n")


def read_record(folder: Path) -> DatasetRecord | None:
    """The record of a complete data set, None where there is none.

    Raises:
        WrongFile: dataset.json is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    with reading(path, "a whole record", f"delete {folder} and prepare again"):
        return DatasetRecord.model_validate_json(path.read_bytes())


def read_index(folder: Path) -> DatasetIndex:
    """Read a prepared data set.

    Raises:
        UserError: the data set is not prepared.
        WrongFile: dataset.json and index.csv disagree, or a path leaves the data set's folder.
    """
    record = read_record(folder)
    if record is None:
        raise UserError(
            f"the data set in {folder} is not prepared ({RECORD} is missing); "
            f"run: cp2 dataset {folder.name}, with the --campaign of this command"
        )
    with reading(folder / INDEX, "a whole list of images", f"delete {folder} and prepare again"):
        content = (folder / INDEX).read_bytes()
        header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
        items = tuple(Item(*row) for row in rows)
    if record.index_sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise WrongFile(
            f"{folder / INDEX} is not the one that {RECORD} was written for (its SHA-256 differs); "
            f"delete {folder / RECORD} and prepare again"
        )
    expected = {name: split.images for name, split in record.splits.items()}
    found = Counter(item.split for item in items)
    if header != _COLUMNS or found != Counter(expected):
        raise WrongFile(
            f"{folder / INDEX} has {len(items)} images {dict(found)}, {RECORD} says "
            f"{sum(expected.values())} {expected}; delete {folder / RECORD} and prepare again"
        )
    named = Counter(item[:2] for item in items)
    for (split, image), times in named.items():
        if times > 1 or not image:
            what = f"{image!r} of {split} {times} times" if image else f"an empty image in {split}"
            raise WrongFile(
                f"{folder / INDEX} names {what}; delete {folder / RECORD} and prepare again"
            )
    for path in (path for item in items for path in item[1:]):
        if not _stays_inside(path, record):
            raise WrongFile(
                f"{folder / INDEX} names {path!r}, which is not in the data set's folder"
                + (f" nor in {record.root}" if record.root else "")
                + f"; delete {folder / RECORD} and prepare again"
            )
    return DatasetIndex(folder, record, items)


def _stays_inside(path: str, record: DatasetRecord) -> bool:
    if "/../" in f"/{path}/" or "\0" in path:
        return False
    if not path.startswith("/"):
        return True
    own = record.kind in OWN_FOLDER or record.root is not None
    return own and (record.root is None or path.startswith(f"{record.root.rstrip('/')}/"))


def label_fraction(items: Sequence[T], fraction: float, seed: int) -> list[T]:
    """A random share of `items`: ceil(fraction * n), at least one, in the items' own order.

    With one seed, a smaller fraction's items are among a larger one's.

    Raises:
        UserError: the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise UserError(f"label fraction {fraction} is outside (0, 1]")
    # the tolerance keeps 0.07 * 100 = 7.000000000000001 at 7
    count = max(1, math.ceil(fraction * len(items) - 1e-9))
    chosen = np.random.default_rng(seed).permutation(len(items))[:count]
    return [items[i] for i in sorted(chosen)]

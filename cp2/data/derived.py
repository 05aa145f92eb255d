"""Files derived from a data set's images, one entry an image: their record, and writing them.

The decoded copy (`image_cache`) and the attention maps (`attention_maps`) are such files.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from operator import ge
from pathlib import Path
from typing import BinaryIO, TypeVar

from cp2.data.index import DatasetIndex
from cp2.errors import UserError, WrongFile, reading
from cp2.record.files import append_to, disk_is_full, read_json, write_json, write_text
from cp2.settings.base import Settings

_COUNT = "count.json"


class DerivedRecord(Settings):
    """What derived files were made from; written when they are in their place."""

    dataset: str
    digest: str  # of the data set's settings
    split: str
    images: int


Record = TypeVar("Record", bound=DerivedRecord)


def read_record(path: Path, model: type[Record], stage: str) -> Record:
    """A record file.

    Args:
        stage: that makes it again.
    Raises:
        WrongFile: it is missing or damaged.
    """
    run = f"run: cp2 {stage} {path.parent.name}"
    with reading(path, "a whole record", make_again(path.parent, stage), run):
        return model.model_validate_json(path.read_bytes())


def write_record(path: Path, record: DerivedRecord) -> None:
    """Write a record file; what it describes must be in its place by then."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def check_source(record: DerivedRecord, index: DatasetIndex, folder: Path, stage: str) -> None:
    """Raise WrongFile unless the files in `folder` were made from this very data set."""
    split = index.pretraining_split
    wanted = (index.record.name, index.record.digest, split, index.record.splits[split].images)
    if (record.dataset, record.digest, record.split, record.images) != wanted:
        raise WrongFile(
            f"{folder}: made from data set {record.dataset} (digest {record.digest[:8]}, "
            f"{record.images} images of {record.split}), but {index.folder} is {wanted[0]} "
            f"(digest {wanted[1][:8]}, {wanted[3]} images of {split}); "
            f"{make_again(folder, stage)}"
        )


def make_again(folder: Path, stage: str) -> str:
    """What to do about damaged files."""
    return f"delete {folder} and run: cp2 {stage} {folder.name}"


class AppendedFiles:
    """Files that grow image by image in a run's `state/`, and go on after a stop.

    What was appended after the last save is thrown away at the next start: after a power cut its
    bytes may be anything.

    Args:
        names: of the files.
        layout: what the bytes mean (a version, a size); saved under another one, they count for
            nothing.

    Attributes:
        images: how many there are, unreadable ones included.
        unreadable: how many of them could not be read.
        sizes: bytes of each file.
    """

    def __init__(self, folder: Path, names: tuple[str, ...], layout: Mapping[str, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._layout = folder, dict(layout)
        self.images, self.unreadable = 0, 0
        self.sizes = dict.fromkeys(names, 0)
        self._restore()
        self._files = {name: self._open(name) for name in names}
        self._saved = time.monotonic()

    def _restore(self) -> None:
        """Go on behind the last save; a damaged one or one of another layout counts for nothing."""
        try:
            saved = read_json(self.folder / _COUNT)
            images, unreadable = int(saved["images"]), int(saved["unreadable"])
            sizes = {str(name): int(size) for name, size in saved["sizes"].items()}
            there = [(self.folder / name).stat().st_size for name in sizes]
        except (WrongFile, OSError, AttributeError, LookupError, TypeError, ValueError):
            return
        known = saved["layout"] == self._layout and sizes.keys() == self.sizes.keys()
        if known and all(map(ge, there, sizes.values())):
            self.images, self.unreadable, self.sizes = images, unreadable, sizes

    def _open(self, name: str) -> BinaryIO:
        file = append_to(self.folder / name)
        file.truncate(self.sizes[name])
        return file

    def append(self, content: Mapping[str, bytes], images: int = 1, unreadable: int = 0) -> None:
        """Add the bytes of some images to the files.

        Raises:
            UserError: the disk is full; the images up to the last save are kept.
        """
        try:
            for name, data in content.items():
                self._files[name].write(data)
                self.sizes[name] += len(data)
        except OSError as error:
            self._explain(error)
        self.images += images
        self.unreadable += unreadable

    def _explain(self, error: OSError) -> None:
        if disk_is_full(error):
            size = sum(self.sizes.values()) / 1e9
            raise UserError(
                f"{self.folder}: no space left on the disk after {self.images} images "
                f"({size:.1f} GB); free some space and start the same command again: "
                "it goes on from the last save"
            ) from error
        raise error

    def save(self) -> None:
        """Make what is there outlast a power cut.

        Raises:
            UserError: the disk is full.
        """
        try:
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            self._explain(error)
        counts = {"images": self.images, "unreadable": self.unreadable, "sizes": self.sizes}
        write_json(self.folder / _COUNT, {**counts, "layout": self._layout})
        self._saved = time.monotonic()

    def save_if_due(self, minutes: float) -> None:
        """Save where the last save is so long ago."""
        if time.monotonic() - self._saved > 60 * minutes:
            self.save()

    def close(self) -> None:
        """Close the files; what was not saved may be lost."""
        for file in self._files.values():
            with suppress(OSError):  # a full disk has been reported already
                file.close()

    def move(self, folder: Path) -> None:
        """Give the finished files, which were saved and closed, their place."""
        for name in self._files:
            (self.folder / name).replace(folder / name)
        (self.folder / _COUNT).unlink()

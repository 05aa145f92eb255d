"""A user's own labelled images, used in place.

root/images/<stem>.jpg     any image format
root/labels/<stem>.png     8-bit class ids 0..K-1, 255 to ignore
root/train.txt             stems, one a line; also val.txt and, if wanted, test.txt

A stem may hold spaces and folders. Accents match however they are composed, and a line may also
hold the file's whole name, backslashes, or further words behind the stem.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cp2.data.labels import mapped_table, plain_table
from cp2.data.preparers.common import Job, Layout, Source, read_lines
from cp2.data.preparers.unlabelled import own_root
from cp2.data.walk import LeftOut, files_below, printable, same_name
from cp2.errors import UserError

_REQUIRED = ("train", "val")
_OPTIONAL = ("test",)
_LABELS = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif"})


def prepare_labelled(job: Job) -> Layout:
    """Pair images and labels by stem, as the split lists say."""
    root = own_root(job)
    photographs = job.images(root / "images", once=False)
    images = Stems(root / "images", photographs)
    pictures = files_below(root / "labels", LeftOut(), _LABELS, once=False)
    labels = Stems(root / "labels", pictures)
    sources = []
    for split in (*_REQUIRED, *_OPTIONAL):
        path = root / f"{split}.txt"
        if not path.is_file():
            if split in _REQUIRED:
                raise UserError(
                    f"data set {job.settings.name}: {path} is missing; write the stems of the "
                    f"{split} images into it, one a line (files below {root / 'images'})"
                )
            continue
        listed = {images.of(line, path, job.left_out) for line in read_lines(path)}
        for stem, image in sorted((images.stem(image), image) for image in listed):
            label = root / "labels" / f"{stem}.png"
            if not label.is_file():
                label = labels.find([stem]) or label
            sources.append(Source(split, stem, image, label))
    used = {source.image for source in sources}
    for image in (path for path in photographs if path not in used):
        job.left_out.add("named by no list", image)
    values = job.settings.label_values
    if values is None:
        return Layout(sources, plain_table(job.num_classes), in_place=True)
    return Layout(sources, mapped_table(values, job.num_classes))


class Stems:
    """Files below a folder by their stems, which may hold folders."""

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        self._folder = folder
        self._exact: dict[str, list[Path]] = {}
        self._alike: dict[str, list[Path]] = {}
        for path in paths:
            name = path.relative_to(folder).as_posix()
            self._exact.setdefault(self.stem(path), []).append(path)
            for text in (self.stem(path), name):
                self._alike.setdefault(same_name(text), []).append(path)

    def stem(self, path: Path) -> str:
        return path.relative_to(self._folder).with_suffix("").as_posix()

    def of(self, line: str, source: Path, left_out: LeftOut) -> Path:
        """The image that a line of a list names.

        Raises:
            UserError: there is none.
        """
        path = self.find(_readings(line))
        if path is None:
            wanted = self._folder / line
            names = {same_name(wanted.name), same_name(wanted.stem)}
            near = [p for p in wanted.parent.glob("*") if same_name(p.stem) in names]
            hints = [f"{printable(p)} is of no readable kind, save it as PNG" for p in near[:1]]
            lines = [f"{source} names {line!r}, but there is no image {wanted}.*"]
            raise UserError("\n".join(lines + (hints or left_out.notes())))
        return path

    def find(self, names: Iterable[str]) -> Path | None:
        """The file of the first of these names that there is.

        Raises:
            UserError: two files have the name.
        """
        for name in names:
            found = self._exact.get(name) or self._alike.get(same_name(name)) or []
            if len(found) > 1:
                raise UserError(
                    f"{found[0]} and {found[1]} have the same stem; rename one of them, or write "
                    "the name with its suffix into the list"
                )
            if found:
                return found[0]
        return None


def _readings(line: str) -> Iterator[str]:
    """What a line of a list may mean, the most literal first."""
    yield line
    plain = line.replace("\\", "/").removeprefix("./")
    yield plain
    yield from plain.split()[:1]

"""A user's own labelled images, used in place.

root/images/<stem>.jpg     any image format
root/labels/<stem>.png     8-bit class ids 0..K-1, 255 to ignore
root/train.txt             stems, one a line; also val.txt and, if wanted, test.txt

A stem may hold spaces and folders. Accents match however they are composed, and a line may also
hold the file's whole name or path, backslashes, or further words behind the stem. Lines that begin
with # and name no image are comments.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from glob import escape, glob
from pathlib import Path

from cp2.data.labels import mapped_table, plain_table
from cp2.data.pillow import image_suffixes
from cp2.data.preparers.common import Job, Layout, Source, read_lines
from cp2.data.preparers.unlabelled import own_root
from cp2.data.walk import LeftOut, files_below, printable
from cp2.errors import UserError
from cp2.settings.base import same_name

_REQUIRED = ("train", "val")
_OPTIONAL = ("test",)
_UNREADABLE = "of no readable kind, save it as PNG"
_LABELS = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif"})


def prepare_labelled(job: Job) -> Layout:
    """Pair images and labels by stem, as the split lists say."""
    root = own_root(job)
    images = Stems(root / "images", job.images(root / "images", once=False))
    pictures = files_below(root / "labels", job.left_out, _LABELS, once=False)
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
        for stem, image in images.listed(path, job.left_out):
            label = root / "labels" / f"{stem}.png"
            if not label.is_file():
                label = labels.find([stem]) or label
            sources.append(Source(split, stem, image, label))
    images.count_others([source.image for source in sources], job.left_out)
    labels.count_others([source.label for source in sources], job.left_out)
    values = job.settings.label_values
    if values is None:
        return Layout(sources, plain_table(job.num_classes), in_place=True)
    return Layout(sources, mapped_table(values, job.num_classes))


class Stems:
    """Files below a folder by their stems, which may hold folders."""

    def __init__(self, folder: Path, paths: Sequence[Path]) -> None:
        self._folder, self._paths = folder, paths
        self._exact: dict[str, list[Path]] = {}
        self._names: dict[str, list[Path]] = {}
        self._alike: dict[str, list[Path]] = {}
        for path in paths:
            name = path.relative_to(folder).as_posix()
            self._exact.setdefault(self.stem(path), []).append(path)
            self._names[name] = [path]
            for text in (self.stem(path), name):
                self._alike.setdefault(_key(text), []).append(path)

    def stem(self, path: Path) -> str:
        return path.relative_to(self._folder).with_suffix("").as_posix()

    def listed(self, source: Path, left_out: LeftOut) -> list[tuple[str, Path]]:
        """Stems and images that a list names, sorted; `left_out` counts what it names again.

        Raises:
            UserError: a line that is no comment (# ...) names no image.
        """
        found: set[Path] = set()
        for line in read_lines(source):
            if line.startswith("#") and self.find(self._readings(line)) is None:
                continue
            image = self.of(line, source, left_out)
            if image in found:
                left_out.add(f"named again by {source.name}", image)
            found.add(image)
        return sorted((self.stem(image), image) for image in found)

    def count_others(self, used: Iterable[Path | None], left_out: LeftOut) -> None:
        """Count the files that are not used, and apart from them those beside a used one."""
        paths = set(used)
        stems = {self.stem(path) for path in self._paths if path in paths}
        for path in (path for path in self._paths if path not in paths):
            twin = "beside another file of the same stem, which is used"
            left_out.add(twin if self.stem(path) in stems else "named by no list", path)

    def of(self, line: str, source: Path, left_out: LeftOut) -> Path:
        """The image that a line of a list names.

        Raises:
            UserError: there is none.
        """
        path = self.find(self._readings(line))
        if path is None:
            wanted = self._folder / line
            names = {_key(wanted.name), _key(wanted.stem)}
            # Path.glob would raise where a name is too long.
            beside = map(Path, glob(f"{escape(str(wanted.parent))}/*"))  # noqa: PTH207
            near = [p for p in beside if p.is_file() and _key(p.stem) in names]
            elsewhere = f"not taken; write names as they are below {self._folder}"
            hints = [
                f"{printable(p)} is "
                f"{elsewhere if p.suffix.lower() in image_suffixes() else _UNREADABLE}"
                for p in near[:1]
            ]
            lines = [f"{source} names {line!r}, but there is no image {wanted}.*"]
            raise UserError("\n".join(lines + (hints or left_out.notes())))
        return path

    def find(self, names: Iterable[str]) -> Path | None:
        """The file of the first of these names that there is.

        Raises:
            UserError: two files have the name.
        """
        for name in names:
            found = self._exact.get(name) or self._names.get(name)
            found = found or self._alike.get(_key(name)) or []
            if len(found) > 1:
                raise UserError(
                    f"{found[0]} and {found[1]} have the same stem; rename one of them, or write "
                    "the name with its suffix into the list"
                )
            if found:
                return found[0]
        return None

    def _readings(self, line: str) -> Iterator[str]:
        """What a line of a list may mean, the most literal first."""
        yield line
        plain = line.replace("\\", "/")
        for text in (plain, *re.split(r"[\s,;]+", plain)[:1]):
            yield (name := text.removeprefix("./"))
            for place in (self._folder.as_posix(), self._folder.name):
                yield name.removeprefix(f"{place}/")


def _key(name: str) -> str:
    """What names are alike by: `same_name`, and the case of a suffix is none of theirs."""
    return re.sub(r"\.\w+$", lambda suffix: suffix.group().lower(), same_name(name))

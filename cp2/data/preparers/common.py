"""What all preparers share: what they hand back, and looking around in what was unpacked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cp2.data.labels import LabelTable
from cp2.data.unpack import Select, unpack
from cp2.data.walk import LeftOut, files_below
from cp2.errors import WrongFile
from cp2.settings.datasets import DatasetSettings


@dataclass(frozen=True)
class Source:
    """One image as the archive or the user's folder has it.

    `name` is unique within its split and may contain "/"; `label` holds raw values, and is made
    from `described` where one file describes many images.
    """

    split: str
    name: str
    image: Path
    label: Path | None = None
    described: Path | None = None


@dataclass(frozen=True)
class Layout:
    """What a preparer found. With a `table`, raw labels become train ids.

    `in_place`: labels hold train ids already and are only checked. `discard`: folders of no further
    use once the labels are converted. `objects`: labels are VOC's XML, of objects of these classes;
    `strict`: those may say no other size of their image.
    `classes`: names that the folders of the images give.
    """

    sources: list[Source]
    table: LabelTable | None = None
    in_place: bool = False
    discard: tuple[Path, ...] = ()
    objects: tuple[str, ...] | None = None
    strict: bool = False
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Job:
    """One preparation: checked archives to be unpacked into an empty folder.

    `left_out` counts the files that are no images of the set.
    """

    settings: DatasetSettings
    classes: tuple[str, ...]  # none: unlabelled
    archives: tuple[Path, ...]
    folder: Path
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def images(self, folder: Path, once: bool = True) -> list[Path]:
        """All image files below a folder, sorted; see `files_below`."""
        return files_below(folder, self.left_out, once=once)

    def unpack(self, select: Select | None = None) -> None:
        """Unpack every archive into the one tree at `folder`."""
        for archive in self.archives:
            unpack(archive, self.folder, select, self.left_out)

    def find(self, *paths: str) -> tuple[Path, ...]:
        """Paths that must be there after unpacking.

        Raises:
            WrongFile: one is not there, so the archives are not the official ones.
        """
        for path in paths:
            if not (self.folder / path).exists():
                names = ", ".join(archive.name for archive in self.archives)
                raise WrongFile(
                    f"data set {self.settings.name}: {path} is in none of its archives ({names}); "
                    "they are not laid out as the official ones. Check `archives` in "
                    f"configs/datasets/{self.settings.name}.yaml"
                )
        return tuple(self.folder / path for path in paths)


Preparer = Callable[[Job], Layout]


def read_ids(path: Path) -> list[str]:
    """Ids of a split list, one a line; further words on a line and empty lines are ignored.

    Raises:
        WrongFile: not readable text.
    """
    return [line.split()[0] for line in read_lines(path)]


def read_lines(path: Path) -> list[str]:
    """Lines of a list that are not empty, without the spaces around them.

    Raises:
        WrongFile: not readable text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark before UTF-8
        if "\0" in text:
            raise ValueError("it holds NUL bytes")
    except (OSError, ValueError) as error:
        raise WrongFile(f"list {path} cannot be read ({error}); save it as UTF-8 text") from error
    return [line.strip() for line in text.split("\n") if line.strip()]


def containing(*parts: str) -> Select:
    """Select archive members whose "/name" contains one of the parts."""
    return lambda name: any(part in f"/{name}" for part in parts)


def below(folder: Path, images: Iterable[Path], split: str) -> list[Source]:
    """Unlabelled sources named by their path below `folder`, without suffix."""
    return [
        Source(split, image.relative_to(folder).with_suffix("").as_posix(), image)
        for image in images
    ]

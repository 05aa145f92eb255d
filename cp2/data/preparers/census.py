"""What labels and images of a data set are like as a whole: counted, told, refused if useless."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cp2.data.index import Item, Split
from cp2.data.labels import IGNORE
from cp2.data.preparers.common import Source
from cp2.data.walk import SHOWN, printable
from cp2.errors import WrongFile

_CLASSES_SHOWN = 8
# What becomes of images with an EXIF orientation; the sizes of their labels decide.
AS_STORED = "are used as stored, as their labels are"
UPRIGHT = "are turned upright for finetuning and evaluation, as their labels are"
UNSAID = (
    "are used as stored: the sizes of their labels do not tell whether they were drawn on the "
    "turned images; if so, save the images upright (mogrify -auto-orient) and prepare again"
)
UNLABELLED = "are used as stored, as in the published trainings"


@dataclass(frozen=True)
class Checked:
    """One image that was checked with its label.

    `turned`: what becomes of its EXIF orientation, if there is one; `ids`: pixels, or objects, of
    each train id 0..255, if there is a label (255: ignored, difficult); `content`: the file's
    digest, if all of it was read.
    """

    item: Item
    turned: str | None = None
    ids: npt.NDArray[np.int64] | None = None
    content: bytes | None = None


class Census:
    """Counts over all images of a data set.

    Args:
        classes: names in train-id order; none: unlabelled.
        own: the labels are the user's own, and one class alone is a mistake of theirs.
        objects: labels hold objects, not pixels.
    """

    def __init__(self, name: str, classes: Sequence[str], own: bool, objects: bool = False) -> None:
        self._unit, self._ignored = (
            ("object", "difficult or a crowd") if objects else ("pixel", "ignored")
        )
        self._name, self._classes, self._own = name, classes, own
        self._images: dict[str, int] = {}
        self._ids: dict[str, npt.NDArray[np.int64]] = {}
        self._turned: dict[str, list[str]] = {}
        self._splits_of: dict[bytes, tuple[str, str]] = {}
        self._twice: list[str] = []
        self._empty: dict[str, list[str]] = {}

    def add(self, source: Source, found: Checked) -> None:
        """Count one image."""
        split = source.split
        self._images[split] = self._images.get(split, 0) + 1
        if found.turned:
            self._turned.setdefault(found.turned, []).append(printable(source.image))
        if found.ids is None:
            return
        self._ids[split] = self._ids.get(split, 0) + found.ids
        if self._unit == "object" and not found.ids.any():
            self._empty.setdefault(split, []).append(printable(source.image))
        key = found.content or source.name.encode()
        other, name = self._splits_of.setdefault(key, (split, source.name))
        if other != split:
            self._twice.append(f"{name} of {other} is {source.name} of {split}")

    def splits(self) -> dict[str, Split]:
        """Size of each split, and its pixels of each class."""
        splits = {split: Split(images=images) for split, images in self._images.items()}
        for split, ids in self._ids.items() if self._unit == "pixel" else ():
            pixels = tuple(ids[: len(self._classes)].tolist())
            counted = {"pixels": pixels, "ignored": int(ids[IGNORE])}
            splits[split] = splits[split].model_copy(update=counted)
        return splits

    def check(self) -> None:
        """Refuse labels that teach nothing.

        Raises:
            WrongFile: all pixels of a split are ignored, or it has no object; there is one class in
                train; or images lie as EXIF says or do not, and which ones do cannot be told.
        """
        for split in self._ids:
            present = self._present(split)
            if len(present) > 1 or (present and (split != "train" or not self._own)):
                continue
            if self._unit == "object":
                raise WrongFile(
                    f"data set {self._name}: split {split} has no object"
                    + (" that is not difficult or a crowd" if self._ids[split][IGNORE] else "")
                    + "; nothing can be scored there. Check that its annotations hold objects, and "
                    "that it names images that show some"
                )
            what = f"of class {present[0]}" if present else f"of value {IGNORE}, which is ignored"
            raise WrongFile(
                f"data set {self._name}: all labelled pixels of split {split} are {what}; nothing "
                f"can be {'learned' if split == 'train' else 'scored'} from that. "
                + self._way_out(bool(present and self._ids[split][IGNORE]))
            )
        unsaid, upright = (self._turned.get(kind, []) for kind in (UNSAID, UPRIGHT))
        if unsaid and upright:
            raise WrongFile(
                f"data set {self._name}: the labels of {_some(upright)} belong to the images as "
                f"their EXIF orientation turns them, but of {_some(unsaid)} the labels' sizes do "
                "not tell; save those images upright (mogrify -auto-orient FILE)"
            )

    def _way_out(self, binary: bool) -> str:
        if binary and len(self._classes) == 2:
            return (
                f"Are these masks of 0 and {IGNORE}? Then write label_values: {{0: 0, {IGNORE}: 1}}"
                f" into the data set's settings, so that {IGNORE} is {self._classes[1]}"
            )
        return "Check the labels' values: class ids are 0, 1, 2, ... in the order of the class list"

    def _present(self, split: str) -> list[str]:
        ids = self._ids[split]
        return [name for i, name in enumerate(self._classes) if ids[i]]

    def notes(self) -> list[str]:
        """Lines for the user: shares of the classes, then whatever may be a mistake."""
        lines = [f"{self._unit}s of {split}: {self._shares(split)}" for split in self._ids]
        train = set(self._present("train")) if "train" in self._ids else set()
        for split in self._ids:
            present = self._present(split)
            if absent := [name for name in self._classes if name not in present]:
                lines.append(f"no {self._unit} in {split} of {_some(absent)}")
            if new := [name for name in present if name not in train]:
                lines.append(
                    f"{split} has {self._unit}s of {_some(new)}, but train has none: they score 0"
                )
        lines += [
            f"images of {split} without objects: {_some(n)}" for split, n in self._empty.items()
        ]
        if self._twice:
            lines.append(f"the same images in two splits: {_some(self._twice)}")
        for kind, names in self._turned.items():
            lines.append(f"images with an EXIF orientation {kind}: {_some(names)}")
        return lines

    def _shares(self, split: str) -> str:
        ids = self._ids[split]
        shares = [(int(ids[i]), name) for i, name in enumerate(self._classes) if ids[i]]
        shares.sort(key=lambda share: -share[0])
        shown = shares[:_CLASSES_SHOWN]
        if rest := shares[_CLASSES_SHOWN:]:
            shown.append((sum(pixels for pixels, _ in rest), f"{len(rest)} others"))
        shown.append((int(ids[IGNORE]), self._ignored))
        if self._unit == "object":
            return ", ".join(f"{name} {objects}" for objects, name in shown)
        return ", ".join(f"{name} {pixels / ids.sum():.1%}" for pixels, name in shown)


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"

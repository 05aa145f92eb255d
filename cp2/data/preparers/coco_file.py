"""A COCO json of any size, read entry by entry: what is kept of it is a few numbers an object."""

import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from cp2.data.annotations import ImageObject
from cp2.data.preparers.json_entries import entries
from cp2.errors import WrongFile, reading
from cp2.settings.messages import nearest

_BITS = 60  # of a run's length
_SLACK = 1.0  # pixels that a box or a polygon may lie outside
_HUGE = 1e15  # pixels, and more than any area; NaN is not below it, either
_LEAST = 6  # numbers of a polygon: three corners
_LISTS = {"images": "image", "annotations": "annotation", "categories": "category"}


class CocoImage(NamedTuple):
    """An image as the file describes it."""

    id: int
    file: str  # without "./" and "//", so that no two names mean one file
    size: tuple[int, int]  # width, height


class CocoFile:
    """Images of a file, and their objects on demand.

    Args:
        path: a json of `images`, `annotations` and `categories`, in any order.
        classes: names that its categories may have; ids may have holes.
        strict: objects without area and masks that are none are errors. The official files hold a
            few, which are scored as they are and not learned from.
    Raises:
        WrongFile: it is damaged, an id is there twice, or an annotation belongs to no image or
            category; names it.
    """

    def __init__(self, path: Path, classes: Sequence[str], strict: bool) -> None:
        self.path, self._strict = path, strict
        self.images: list[CocoImage] = []
        self._categories: dict[int, str] = {}
        self._rows = array("q")  # of each annotation: image, id, first byte, end
        with self._reading():
            ids: dict[str, set[int]] = {"image": set(), "category": set()}
            seen = set()
            for name, entry, first, end in entries(path, _LISTS, plain="annotations"):
                seen.add(name)
                self._add(_LISTS[name], entry, first, end, ids)
            if lacking := [name for name in _LISTS if name not in seen]:
                raise WrongFile(
                    f"{path} has no {', '.join(lacking)}, or empty ones; a COCO json has all three"
                )
        for name in self._categories.values():
            if name not in classes:
                raise WrongFile(f"{path}: category {name!r} is no class; {nearest(name, classes)}")
        rows = np.frombuffer(self._rows, np.int64).reshape(-1, 5)
        self._check(rows, ids)
        self._sorted = rows[np.argsort(rows[:, 0], kind="stable")]
        del self._rows

    def _reading(self) -> AbstractContextManager[None]:
        return reading(self.path, "a COCO json", "correct it, or take it from where it came again")

    def _add(self, kind: str, entry: Any, first: int, end: int, ids: dict[str, set[int]]) -> None:
        number = _whole(entry, "id", f"{self.path}: {kind}")
        where = f"{self.path}: {kind} {number}"
        if kind == "annotation":
            owners = (_whole(entry, key, where) for key in ("image_id", "category_id"))
            self._rows.extend((*owners, number, first, end))
            return
        if number in ids[kind]:
            raise WrongFile(f"{where} is there twice; ids must differ")
        ids[kind].add(number)
        if kind == "image":
            file = entry.get("file_name")
            if not isinstance(file, str) or not file:
                raise WrongFile(f"{where} has no file_name")
            size = _whole(entry, "width", where), _whole(entry, "height", where)
            if min(size) < 1:
                raise WrongFile(f"{where} ({file}) is {size[0]}x{size[1]} pixels")
            self.images.append(CocoImage(number, str(PurePosixPath(file)), size))
        else:
            if not isinstance(entry.get("name"), str):
                raise WrongFile(f"{where} has no name")
            self._categories[number] = entry["name"]

    def _check(self, rows: npt.NDArray[np.int64], ids: dict[str, set[int]]) -> None:
        numbers, times = np.unique(rows[:, 2], return_counts=True)
        if (times > 1).any():
            raise WrongFile(
                f"{self.path}: annotation {numbers[times > 1][0]} is there twice; ids must differ"
            )
        for column, kind in enumerate(("image", "category")):
            for owner, annotation in rows[:, [column, 2]].tolist():
                if owner not in ids[kind]:
                    raise WrongFile(
                        f"{self.path}: annotation {annotation} is of {kind} {owner}, which the "
                        "file does not have; add it, or remove the annotation"
                    )
        for what, names in (
            ("file_name", [one.file for one in self.images]),
            ("category", list(self._categories.values())),
        ):
            name, uses = Counter(names).most_common(1)[0] if names else ("", 0)
            if uses > 1:
                raise WrongFile(f"{self.path}: {uses} have the {what} {name!r}; each needs its own")

    def objects(self) -> Iterator[tuple[CocoImage, list[ImageObject]]]:
        """Images in the file's order with their objects.

        Raises:
            WrongFile: an object is not what it should be; names it and its image.
        """
        with self._reading(), self.path.open("rb") as file:
            for image in self.images:
                low, high = np.searchsorted(self._sorted[:, 0], [image.id, image.id + 1])
                yield image, [self._object(file, image, row) for row in self._sorted[low:high]]

    def _object(self, file: BinaryIO, image: CocoImage, row: Any) -> ImageObject:
        _, category, number, first, end = row.tolist()
        entry = json.loads(os.pread(file.fileno(), end - first, first))
        name = self._categories[category]
        where = f"{self.path}: annotation {number} ({name}) of {image.file}"
        box = _numbers(entry.get("bbox"), f"{where}: bbox")
        if len(box) != 4:
            raise WrongFile(f"{where}: bbox {box} must be x, y, width, height")
        crowd, area = entry.get("iscrowd", 0), entry.get("area")
        if crowd not in (0, 1):
            raise WrongFile(f"{where}: iscrowd is {crowd!r}, must be 0 or 1")
        if area is not None:
            (area,) = _numbers([area], f"{where}: area")
        x, y, width, height = box
        mask = _mask(entry.get("segmentation"), image.size, where, self._strict)
        if self._strict:
            shown = f"{where}: its box {x:g}, {y:g} of {width:g}x{height:g}"
            if min(width, height) <= 0:
                raise WrongFile(f"{shown} has no area")
            _inside([x, y, x + width, y + height], image.size, shown)
            if area is not None and not 0 < area <= (width + _SLACK) * (height + _SLACK):
                raise WrongFile(
                    f"{shown} cannot hold its area of {area:g}; leave the area out, or correct it"
                )
            for number, one in enumerate(mask if isinstance(mask, list) else [], 1):
                _in_box(one, box, f"{where}: polygon {number}")
            if isinstance(mask, dict):
                runs = _box_of(mask["counts"], image.size[1])
                _in_box(runs, box, f"{where}: its mask", "; counts go down column by column")
        return ImageObject(
            name, (x, y, x + width, y + height), bool(crowd), bool(crowd), area, mask
        )


def _mask(found: Any, size: tuple[int, int], where: str, strict: bool) -> Any:
    """Polygons, or runs that add up to the image; None where there is no mask."""
    if not found:
        return None
    if isinstance(found, dict):
        width, height = size
        if found.get("size") != [height, width]:
            raise WrongFile(
                f"{where}: its mask is of size {found.get('size')}, must be [{height}, {width}]"
            )
        counts = found.get("counts")
        if isinstance(counts, str):
            counts = _runs(counts)
        if (
            not isinstance(counts, list)
            or not all(type(count) is int and count >= 0 for count in counts)
            or sum(counts) != width * height
        ):
            raise WrongFile(
                f"{where}: the runs of its mask must be whole numbers that add up to {width} x "
                f"{height} pixels"
            )
        if strict and not any(counts[1::2]):
            raise WrongFile(f"{where}: its mask has no pixel")
        return {"counts": counts, "size": [height, width]}
    if not isinstance(found, list) or not all(isinstance(one, list) for one in found):
        raise WrongFile(f"{where}: segmentation must be a list of polygons, or counts and size")
    for number, one in enumerate(found, 1):
        points = _numbers(one, f"{where}: polygon {number}")
        if strict:
            shown = f"{where}: polygon {number}"
            if len(points) < _LEAST or len(points) % 2 or not _area(points):
                raise WrongFile(f"{shown} of {len(points)} numbers has no area")
            _inside(points, size, shown)
    return [one for one in found if len(one) >= _LEAST and not len(one) % 2] or None


def _runs(text: str) -> list[int]:
    """COCO's compressed runs: numbers of 5 bits a character, from the third on as a difference."""
    counts: list[int] = []
    number = shift = 0
    for code in text.encode("latin-1", "replace"):
        part = code - 48
        if shift > _BITS:  # no run is so long
            return []
        number |= (part & 31) << shift
        shift += 5
        if not part & 32:
            if part & 16:
                number -= 1 << shift
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    return counts


def _area(points: Sequence[float]) -> float:
    x, y = np.array(points).reshape(-1, 2).T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2


def _inside(points: Sequence[float], size: tuple[int, int], shown: str) -> None:
    for side, values in zip(size, (points[::2], points[1::2]), strict=True):
        if min(values) < -_SLACK or max(values) > side + _SLACK:
            raise WrongFile(f"{shown} leaves the image, which is {size[0]}x{size[1]} pixels")


def _box_of(counts: Sequence[int], height: int) -> list[float]:
    """x0, y0, x1, y1 around runs, of which some hold pixels; they go down columns of `height`."""
    ends = np.cumsum(counts)
    starts, last = (ends - counts)[1::2], ends[1::2] - 1
    starts, last = starts[last >= starts], last[last >= starts]
    (left, top), (right, bottom) = np.divmod(starts, height), np.divmod(last, height)
    whole = (left < right).any()  # such a run holds the end of one column and the top of the next
    y0, y1 = (0, height) if whole else (int(top.min()), int(bottom.max()) + 1)
    return [int(left.min()), y0, int(right.max()) + 1, y1]


def _in_box(points: Sequence[float], box: Sequence[float], shown: str, hint: str = "") -> None:
    for start, side, values in zip(box[:2], box[2:], (points[::2], points[1::2]), strict=True):
        if min(values) < start - _SLACK or max(values) > start + side + _SLACK:
            sides = ", ".join(f"{value:g}" for value in box)
            raise WrongFile(
                f"{shown} leaves its object's box {sides}, which must be x, y, width, height{hint}"
            )


def _numbers(found: Any, where: str) -> list[float]:
    good = isinstance(found, list) and all(
        type(one) in (int, float) and abs(one) < _HUGE for one in found
    )
    if not good:
        raise WrongFile(f"{where} is {str(found)[:80]}, must be numbers")
    return list(found)


def _whole(entry: Any, key: str, where: str) -> int:
    found = entry.get(key) if isinstance(entry, dict) else None
    if type(found) is not int or abs(found) >= 1 << 62:
        raise WrongFile(f"{where}: {key} is {str(found)[:80]!r}, must be a whole number")
    return found

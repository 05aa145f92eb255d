"""Objects of an image: of PASCAL VOC's XML, or of what `cp2 dataset` keeps of a COCO file."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from cp2.errors import WrongFile, reading
from cp2.settings.messages import nearest

PRESENT, ABSENT, DIFFICULT = 1, 0, -1  # of a class in an image
SIDES = ("xmin", "ymin", "xmax", "ymax")
_MOST_ELEMENTS, _DEEPEST = 100_000, 100  # of a file; VOC's have hundreds, four in each other
_SLACK = 1.0  # pixels: some tools count from 0, or write the picture's width as the last column


Box = tuple[float, float, float, float]


class ImageObject(NamedTuple):
    """One object.

    Attributes:
        box: x0, y0, x1, y1 in pixels from 0, the right and lower end outside. VOC counts its pixels
            from 1 with the last one included, and has fractions in 2012.
        difficult: finding it is neither rewarded nor punished.
        crowd: COCO's box around many objects, which is not learned from; difficult, too.
        area: in pixels, of the mask where there is one.
        mask: COCO's polygons (x, y, x, y, ...) or runs {"counts": [...], "size": [height, width]}.
    """

    name: str
    box: Box
    difficult: bool
    crowd: bool = False
    area: float | None = None
    mask: Any = None


class _Tree(ElementTree.TreeBuilder):
    """Raises ValueError at what takes far more memory than its text."""

    elements = depth = 0

    def start(self, tag: Any, attrs: Any) -> Any:
        self.elements += 1
        self.depth += 1
        if self.elements > _MOST_ELEMENTS or self.depth > _DEEPEST:
            raise ValueError(f"over {_MOST_ELEMENTS} elements, or {_DEEPEST} in each other")
        return super().start(tag, attrs)

    def end(self, tag: str) -> Any:
        self.depth -= 1
        return super().end(tag)

    def doctype(self, *_: str | None) -> None:
        raise ValueError("it has a DOCTYPE, which may stand for any amount of text")


def read_objects(
    path: Path,
    classes: Sequence[str],
    size: tuple[int, int] | None = None,
    strict: bool = False,
) -> list[ImageObject]:
    """Objects in the file's order; there may be none.

    Args:
        path: VOC's XML, or JSON as `write_objects` writes it.
        classes: names that objects may have.
        size: width and height of the image, which boxes are held to.
        strict: VOC's XML may say no other size of the image.

    Raises:
        WrongFile: not readable, or an object of no known class, without one box, or whose box has
            no area or leaves the image; names the object.
    """
    if path.suffix == ".json":
        return _kept_objects(path, size)
    root = _voc(path)
    if size is not None and strict:
        _check_size(root, path, size)
    found = enumerate(root.findall("object"), 1)
    return [_object(element, f"{path}: object {n}", classes, size) for n, element in found]


def _voc(path: Path) -> ElementTree.Element:
    with reading(path, "an annotation in VOC's XML", "correct it, or take its image off the list"):
        parser = ElementTree.XMLParser(target=_Tree())
        root = ElementTree.parse(path, parser).getroot()
        if root.tag != "annotation":
            raise ValueError(
                f"it begins with <{root.tag}>, not with <annotation>"
                + ("; remove its namespace (xmlns)" if root.tag.startswith("{") else "")
            )
        for tag in (child.tag for child in root):
            if tag != "object" and tag.rpartition("}")[2].lower() in ("object", "objects"):
                raise ValueError(f"it has <{tag}> where <object> must be")
    return root


def states_size(path: Path) -> bool:
    """Whether it says the size of the image."""
    return path.suffix == ".json" or _stated(_voc(path)) is not None


def _stated(root: ElementTree.Element) -> tuple[str, str] | None:
    """Width and height as they stand there; a few tools leave them out, or write 0."""
    width, height = ((root.findtext(f"size/{side}") or "").strip() for side in ("width", "height"))
    return None if {width, height} <= {"", "0"} else (width, height)


def _check_size(root: ElementTree.Element, path: Path, size: tuple[int, int]) -> None:
    """Boxes drawn on a smaller copy, or on the image turned, would fit without being right."""
    said = _stated(root)
    if said is not None and tuple(map(_number, said)) != size:
        raise WrongFile(
            f"{path}: is of an image of {said[0][:9]}x{said[1][:9]} pixels, but its image is "
            f"{size[0]}x{size[1]}. If EXIF turns it, save it upright (mogrify -auto-orient)"
        )


def _object(
    element: ElementTree.Element, where: str, classes: Sequence[str], size: tuple[int, int] | None
) -> ImageObject:
    name = (element.findtext("name") or "").strip()
    if name not in classes:
        what = f"is of class {name!r}" if name else "has no name"
        raise WrongFile(f"{where} {what}; {nearest(name, classes)}")
    where = f"{where} ({name})"
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise WrongFile(f"{where}: difficult is {difficult!r}, must be 0 or 1")
    if (boxes := len(element.findall("bndbox"))) > 1:
        raise WrongFile(f"{where}: it has {boxes} of bndbox; write an object for each")
    xmin, ymin, xmax, ymax = (_side(element, side, where) for side in SIDES)
    shown = f"its box {xmin:g}, {ymin:g} to {xmax:g}, {ymax:g}"
    if xmax < xmin or ymax < ymin:
        raise WrongFile(f"{where}: {shown} has no area; the last pixel lies before the first")
    width, height = size or (math.inf, math.inf)
    if min(xmin, ymin) < 1 - _SLACK or xmax > width + _SLACK or ymax > height + _SLACK:
        raise WrongFile(f"{where}: {shown} leaves the image, which is {width}x{height} pixels")
    return ImageObject(name, (xmin - 1, ymin - 1, xmax, ymax), difficult == "1")


def _side(element: ElementTree.Element, side: str, where: str) -> float:
    text = element.findtext(f"bndbox/{side}")
    if not math.isfinite(number := _number(text)):
        raise WrongFile(f"{where}: {side} of its bndbox is {text!r}, must be a number")
    return number


def _number(text: str | None) -> float:
    """NaN where it is none, as are Python's 1_0 and other alphabets' digits."""
    try:
        return float(text) if text and text.isascii() and "_" not in text else math.nan
    except ValueError:
        return math.nan


def write_objects(path: Path, size: tuple[int, int], objects: Sequence[ImageObject]) -> None:
    """The objects of an image of (width, height) whose annotations are no file of its own."""
    path.write_text(json.dumps({"size": size, "objects": objects}))


def _kept_objects(path: Path, size: tuple[int, int] | None) -> list[ImageObject]:
    with reading(path, "what `cp2 dataset` writes", "delete the data set's folder, prepare again"):
        content = json.loads(path.read_bytes())
        objects = [ImageObject(*one)._replace(box=tuple(one[1])) for one in content["objects"]]
        said = tuple(content["size"])
    if size is not None and said != size:
        turned = "; save it upright (mogrify -auto-orient)" if said == size[::-1] else ""
        raise WrongFile(
            f"{path.stem} is {size[0]}x{size[1]}, its annotations are of an image of "
            f"{said[0]}x{said[1]} (width x height){turned}"
        )
    return objects


def image_labels(paths: Sequence[Path], classes: Sequence[str]) -> npt.NDArray[np.int8]:
    """Which classes each image shows, (images, classes): PRESENT, ABSENT, or DIFFICULT where all
    objects of the class are: VOC's 1, -1 and 0 in ImageSets/Main/<class>_<split>.txt.

    Raises:
        WrongFile: an annotation cannot be read.
    """
    labels = np.full((len(paths), len(classes)), ABSENT, np.int8)
    columns = {name: column for column, name in enumerate(classes)}
    for row, path in zip(labels, paths, strict=True):
        for one in sorted(read_objects(path, classes), key=lambda one: not one.difficult):
            row[columns[one.name]] = DIFFICULT if one.difficult else PRESENT
    return labels

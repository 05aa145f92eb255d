"""Objects of an image in PASCAL VOC's XML: class, box, whether it is difficult."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from cp2.errors import WrongFile, reading
from cp2.settings.messages import nearest

PRESENT, ABSENT, DIFFICULT = 1, 0, -1  # of a class in an image
SIDES = ("xmin", "ymin", "xmax", "ymax")
_SLACK = 1.0  # pixels: some tools count from 0, or write the picture's width as the last column


class VocObject(NamedTuple):
    """One object.

    Attributes:
        box: xmin, ymin, xmax, ymax as the file says: pixels from 1, the last one included; VOC
            2012 has fractions.
        difficult: VOC neither rewards nor punishes finding it.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class _Tree(ElementTree.TreeBuilder):
    def doctype(self, *_: str | None) -> None:
        raise ValueError("it has a DOCTYPE, which may stand for any amount of text")


def read_objects(
    path: Path, classes: Sequence[str], size: tuple[int, int] | None = None
) -> list[VocObject]:
    """Objects in the file's order; there may be none.

    Args:
        classes: names that objects may have.
        size: width and height of the image, which boxes are held to.

    Raises:
        WrongFile: no readable XML, or an object of no known class, without a box, or whose box has
            no area or leaves the image; names the object.
    """
    with reading(path, "an annotation in VOC's XML", "correct it, or take its image off the list"):
        parser = ElementTree.XMLParser(target=_Tree())
        root = ElementTree.parse(path, parser).getroot()
    found = enumerate(root.findall("object"), 1)
    return [_object(element, f"{path}: object {n}", classes, size) for n, element in found]


def _object(
    element: ElementTree.Element, where: str, classes: Sequence[str], size: tuple[int, int] | None
) -> VocObject:
    name = (element.findtext("name") or "").strip()
    if name not in classes:
        what = f"is of class {name!r}" if name else "has no name"
        raise WrongFile(f"{where} {what}; {nearest(name, classes)}")
    where = f"{where} ({name})"
    difficult = (element.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        raise WrongFile(f"{where}: difficult is {difficult!r}, must be 0 or 1")
    xmin, ymin, xmax, ymax = (_side(element, side, where) for side in SIDES)
    shown = f"its box {xmin:g}, {ymin:g} to {xmax:g}, {ymax:g}"
    if xmax < xmin or ymax < ymin:
        raise WrongFile(f"{where}: {shown} has no area; the last pixel lies before the first")
    width, height = size or (math.inf, math.inf)
    if min(xmin, ymin) < 1 - _SLACK or xmax > width + _SLACK or ymax > height + _SLACK:
        raise WrongFile(f"{where}: {shown} leaves the image, which is {width}x{height} pixels")
    return VocObject(name, (xmin, ymin, xmax, ymax), difficult == "1")


def _side(element: ElementTree.Element, side: str, where: str) -> float:
    text = element.findtext(f"bndbox/{side}")
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise WrongFile(f"{where}: {side} of its bndbox is {text!r}, must be a number")
    return number


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

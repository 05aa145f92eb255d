"""COCO's twelve numbers for boxes or masks, by pycocotools."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cp2.data.annotations import ImageObject
from cp2.protocols.detection.masks import coco_module, encoded
from cp2.protocols.detection.rpn import Size
from cp2.protocols.detection.voc_scores import Found
from cp2.settings.protocols.detection import COCO_NUMBERS

NAMES = tuple(COCO_NUMBERS)


@dataclass(frozen=True)
class CocoScores:
    """Shares of one; NaN where nothing can be said.

    Attributes:
        values: the twelve numbers by name.
        per_category: average precision of each category, in the order of their ids.
    """

    values: dict[str, float]
    per_category: list[float]


def coco_scores(
    truth: Mapping[str, Any], found: Sequence[Mapping[str, Any]], kind: Literal["bbox", "segm"]
) -> CocoScores:
    """Score detections.

    Args:
        truth: a COCO file's content: images, annotations, categories.
        found: detections as COCO's results: image_id, category_id, score, bbox and, for masks,
            segmentation, both of compressed runs. Areas of masks are the masks' own, whatever boxes
            are given.
    """
    masks = kind == "segm"
    # For masks, an object that has none is as little wrong as a crowd.
    objects = [
        {**one, "iscrowd": int(one["iscrowd"] or (masks and not one.get("masked", True)))}
        for one in truth["annotations"]
    ]
    area = coco_module("mask").area
    detections = [
        {
            **one,
            "id": number,
            "area": area(one["segmentation"]) if masks else np.prod(one["bbox"][2:]),
        }
        for number, one in enumerate(found, 1)
    ]
    with redirect_stdout(StringIO()):  # it tells of each step
        sides = (_indexed({**truth, "annotations": part}) for part in (objects, detections))
        evaluator = coco_module("cocoeval").COCOeval(*sides, kind)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    # -1 stands for nothing to find; (overlaps, recalls, categories) of all sizes.
    numbers = np.where(evaluator.stats < 0, np.nan, evaluator.stats).tolist()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]
    return CocoScores(
        dict(zip(NAMES, numbers, strict=True)),
        [_mean(precision[:, :, category]) for category in range(precision.shape[2])],
    )


def _indexed(content: dict[str, Any]) -> Any:
    coco = coco_module("coco").COCO()
    coco.dataset = content
    coco.createIndex()
    return coco


def _mean(values: npt.NDArray[np.float64]) -> float:
    known = values[values >= 0]
    return float(known.mean()) if known.size else float("nan")


def as_coco_truth(
    objects: Sequence[Sequence[ImageObject]], sizes: Sequence[Size], names: Sequence[str]
) -> dict[str, Any]:
    """A COCO file's content of images of (height, width), which are numbered.

    What VOC calls difficult counts as a crowd; so does, for masks, an object that has none.
    """
    annotations: list[dict[str, Any]] = []
    for image, (these, size) in enumerate(zip(objects, sizes, strict=True)):
        for one in these:
            x0, y0, x1, y1 = one.box
            mask = encoded(one.mask or [[x0, y0, x1, y0, x1, y1, x0, y1]], size)
            area = coco_module("mask").area(mask) if one.mask else (x1 - x0) * (y1 - y0)
            annotations.append(
                {
                    "id": len(annotations) + 1,  # pycocotools takes 0 for none
                    "image_id": image,
                    "category_id": names.index(one.name),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(area if one.area is None else one.area),
                    "iscrowd": int(one.difficult),
                    "segmentation": mask,
                    "masked": bool(one.mask),
                }
            )
    return {
        "images": [{"id": n, "height": h, "width": w} for n, (h, w) in enumerate(sizes)],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
    }


def as_coco_results(found: Found, masks: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Detections as COCO's results, with compressed runs where there are masks."""
    sides = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], 1)
    columns = (found.images, found.classes, found.scores, sides)
    keys = ("image_id", "category_id", "score", "bbox")
    rows = [
        dict(zip(keys, row, strict=True))
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]
    for row, mask in zip(rows, masks, strict=False):
        row["segmentation"] = mask
    return rows

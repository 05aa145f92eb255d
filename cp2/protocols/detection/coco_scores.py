"""COCO's twelve numbers for boxes or masks, as pycocotools computes them, in a fifth of its time.

Overlaps are pycocotools' own; what belongs together is found for all thresholds and sizes at once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from cp2.data.annotations import ImageObject
from cp2.protocols.detection.masks import coco_module, encoded
from cp2.protocols.detection.rpn import Size
from cp2.protocols.detection.voc_scores import Bools, Floats, Found, Ints
from cp2.settings.protocols.detection import COCO_NUMBERS

NAMES = tuple(COCO_NUMBERS)
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
SIZES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))  # of areas; all first
MOST = (1, 10, 100)  # detections of a category in an image

Entries = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class CocoScores:
    """Shares of one; NaN where nothing can be said.

    Attributes:
        values: the twelve numbers by name.
        per_category: average precision of each category, in the order of their ids.
    """

    values: dict[str, float]
    per_category: list[float]


class Judged(NamedTuple):
    """Detections of a category, images one after the other, the best of each first.

    Attributes:
        scores: (n,).
        ranks: (n,) in their image, from 0.
        right, ignored: (sizes, overlaps, n).
        wanted: (sizes,) objects that should be found.
    """

    scores: Floats
    ranks: Ints
    right: Bools
    ignored: Bools
    wanted: Ints


def coco_scores(
    truth: Mapping[str, Any], found: Entries, kind: Literal["bbox", "segm"]
) -> CocoScores:
    """Score detections.

    Args:
        truth: a COCO file's content: images, annotations, categories.
        found: detections as COCO's results: image_id, category_id, score, bbox and, for masks,
            segmentation, both of compressed runs. Areas of masks are the masks' own, whatever boxes
            are given.
    """
    objects, detections = (_grouped(entries) for entries in (truth["annotations"], found))
    images = sorted(one["id"] for one in truth["images"])
    sizes = {one["id"]: (one["height"], one["width"]) for one in truth["images"]}
    categories = sorted(one["id"] for one in truth["categories"])
    precision = np.full((len(categories), len(SIZES), len(OVERLAPS), len(RECALLS)), np.nan)
    recall = np.full((len(categories), len(SIZES), len(OVERLAPS), len(MOST)), np.nan)
    for row, category in enumerate(categories):
        judged = [
            _judged(objects[image, category], detections[image, category], kind, sizes[image])
            for image in images
            if (image, category) in objects or (image, category) in detections
        ]
        for size in range(len(SIZES)):
            wanted = sum(int(one.wanted[size]) for one in judged)
            if wanted:
                precision[row, size], recall[row, size] = _curve(judged, size, wanted)
    values = [
        *(precision[:, 0], precision[:, 0, 0], precision[:, 0, 5]),
        *(precision[:, size] for size in (1, 2, 3)),
        *(recall[:, 0, :, most] for most in range(3)),
        *(recall[:, size, :, 2] for size in (1, 2, 3)),
    ]
    return CocoScores(
        {name: _mean(value) for name, value in zip(NAMES, values, strict=True)},
        [_mean(one) for one in precision[:, 0]],
    )


def _grouped(entries: Entries) -> defaultdict[tuple[int, int], list[Mapping[str, Any]]]:
    groups: defaultdict[tuple[int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for one in entries:
        groups[one["image_id"], one["category_id"]].append(one)
    return groups


def _mean(values: Floats) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))


def _judged(objects: Entries, detections: Entries, kind: str, size: Size) -> Judged:
    """One category in one image."""
    masks, coco = kind == "segm", coco_module("mask")
    order = np.argsort([-one["score"] for one in detections], kind="stable")[: MOST[-1]]
    best = [detections[row] for row in order.tolist()]
    key = "segmentation" if masks else "bbox"
    shapes = [one[key] for one in best]
    areas = coco.area(shapes) if masks else [shape[2] * shape[3] for shape in shapes]
    # For masks, an object that has none is as little wrong as a crowd.
    crowd = np.array(
        [one["iscrowd"] or (masks and not one.get("masked", True)) for one in objects], bool
    )
    ignored = crowd | _outside([one["area"] for one in objects])
    shape = (len(SIZES), len(OVERLAPS), len(best))
    right, passed = np.zeros(shape, bool), np.zeros(shape, bool)
    if objects and best:
        own = [encoded(one[key], size) if masks else one[key] for one in objects]
        overlap = coco.iou(shapes, own, crowd.astype(np.uint8))
        taken = np.zeros((*shape[:2], len(objects)), bool)
        for number in np.flatnonzero(overlap.max(1) >= OVERLAPS[0]).tolist():
            near = overlap[number] >= OVERLAPS[:, None]
            free = near & (crowd | ~taken)
            for these in (free & ~ignored[:, None], free & ignored[:, None]):
                # of equal overlaps the last; ignored ones only where there is no other
                last = np.where(these, overlap[number], -1.0)[..., ::-1].argmax(-1)
                chosen = len(objects) - 1 - last
                row, column = np.nonzero(these.any(-1) & ~right[..., number])
                right[row, column, number] = True
                taken[row, column, chosen[row, column]] = True
                passed[row, column, number] = ignored[row, chosen[row, column]]
    passed |= ~right & _outside(areas)[:, None]
    scores = np.array([one["score"] for one in best], float)
    return Judged(scores, np.arange(len(best)), right, passed, (~ignored).sum(1))


def _outside(areas: Sequence[float]) -> Bools:
    """Which areas are outside of each size: (sizes, n)."""
    low, high = np.array(SIZES).T[..., None]
    found: Bools = (np.array(areas, float) < low) | (np.array(areas, float) > high)
    return found


def _curve(judged: Sequence[Judged], size: int, wanted: int) -> tuple[Floats, Floats]:
    """Precision (overlaps, recalls) of the best detections, and recall (overlaps, MOST)."""
    scores = np.concatenate([one.scores for one in judged])
    order = np.argsort(-scores, kind="stable")
    ranks = np.concatenate([one.ranks for one in judged])[order]
    right, ignored = (
        np.concatenate([part[size] for part in parts], 1)[:, order]
        for parts in ([one.right for one in judged], [one.ignored for one in judged])
    )
    hits, misses = right & ~ignored, ~right & ~ignored
    recalls = np.stack([(hits & (ranks < most)).sum(1) for most in MOST], 1) / wanted
    precision = np.zeros((len(OVERLAPS), len(RECALLS)))
    for row, (hit, miss) in enumerate(zip(hits.cumsum(1), misses.cumsum(1), strict=True)):
        curve = hit / (hit + miss + np.spacing(1))
        envelope = np.append(np.maximum.accumulate(curve[::-1])[::-1], 0.0)
        precision[row] = envelope[np.searchsorted(hit / wanted, RECALLS)]
    return precision, recalls


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

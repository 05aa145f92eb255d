"""COCO's twelve numbers for boxes or masks, by pycocotools."""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cp2.protocols.detection.masks import coco_module

NAMES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
)


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
            segmentation. Areas of masks are the masks' own, whatever boxes are given.
    Raises:
        UserError: pycocotools is not installed.
    """
    coco, evaluation = coco_module("coco"), coco_module("cocoeval")
    keys = {"image_id", "category_id", "score", "bbox" if kind == "bbox" else "segmentation"}
    results = [{key: value for key, value in one.items() if key in keys} for one in found]
    with redirect_stdout(io.StringIO()):
        wanted = coco.COCO()
        wanted.dataset = dict(truth)
        wanted.createIndex()
        if not results:  # `loadRes` refuses an empty list
            return CocoScores(dict.fromkeys(NAMES, 0.0), [0.0] * len(wanted.getCatIds()))
        judge = evaluation.COCOeval(wanted, wanted.loadRes(results), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    values = np.where(judge.stats < 0, np.nan, judge.stats)
    precision = judge.eval["precision"][:, :, :, 0, -1]  # (thresholds, recalls, categories)
    rows = [column[column > -1] for column in precision.transpose(2, 0, 1)]
    return CocoScores(
        dict(zip(NAMES, values.tolist(), strict=True)),
        [float(row.mean()) if row.size else float("nan") for row in rows],
    )

"""VOC's and COCO's average precision against detectron2's evaluators and pycocotools."""

import json
from pathlib import Path

import numpy as np
import pytest

from cp2.protocols.detection.coco_scores import NAMES, coco_scores
from cp2.protocols.detection.voc_scores import (
    Found,
    Truth,
    area_under,
    eleven_points,
    voc_average_precision,
)

GOLDEN = Path(__file__).parent / "golden"
VOC = dict(np.load(GOLDEN / "det_voc_eval.npz"))
COCO = json.loads((GOLDEN / "det_coco_eval.json").read_text())


def truth() -> Truth:
    rows = VOC["gt"]
    return Truth(rows[:, 0], rows[:, 1], rows[:, 2:6].astype(float), rows[:, 6] > 0)


def found(name: str) -> Found:
    rows = VOC[f"dt_{name}"]
    return Found(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2], rows[:, 3:])


@pytest.mark.parametrize("year", ["2007", "2012"])
@pytest.mark.parametrize(("name", "golden"), [("unique", "unique"), ("ties", "ties_stable")])
def test_voc(year: str, name: str, golden: str) -> None:
    scores = 100 * voc_average_precision(truth(), found(name), 6, area=year == "2012")
    np.testing.assert_allclose(scores, VOC[f"{golden}_{year}_per_class"], atol=1e-6)
    means = [scores.mean(), scores[:, 0].mean(), scores[:, 5].mean()]
    np.testing.assert_allclose(means, VOC[f"{golden}_{year}_AP_AP50_AP75"], atol=1e-6)


def test_curves() -> None:
    recall, precision = VOC["ap_recall"], VOC["ap_precision"]
    assert eleven_points(recall, precision) == pytest.approx(float(VOC["ap_11"]), abs=1e-12)
    assert area_under(recall, precision) == pytest.approx(float(VOC["ap_area"]), abs=1e-12)
    tenths = eleven_points(VOC["ap_recall_tenths"], VOC["ap_precision_tenths"])
    assert tenths == pytest.approx(float(VOC["ap_11_tenths"]), abs=1e-12)


def test_a_perfect_curve_is_one_and_no_more() -> None:
    """Eleven elevenths, added up, are more; a reader of scores refuses that."""
    assert eleven_points(np.array([0.5, 1.0]), np.ones(2)) == 1.0


def test_objects_as_detections_are_all_right() -> None:
    wanted = truth()
    easy = ~wanted.difficult
    boxes = wanted.boxes[easy] - (1, 1, 0, 0)
    own = Found(wanted.images[easy], wanted.classes[easy], np.ones(easy.sum()), boxes)
    np.testing.assert_allclose(voc_average_precision(wanted, own, 6), 1.0, atol=1e-12)


def test_classes_without_objects_or_detections() -> None:
    wanted = truth()._replace(difficult=truth().classes == 2)
    nothing = Found(np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros((0, 4)))
    scores = voc_average_precision(wanted, nothing, 7)
    assert np.isnan(scores[[2, 6]]).all()
    assert (scores[[0, 1, 3, 4, 5]] == 0).all()


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_coco(kind: str) -> None:
    scores = coco_scores(COCO["gt"], COCO["dt"], kind)
    wanted = [value if value >= 0 else np.nan for value in COCO[f"stats_{kind}"]]
    np.testing.assert_allclose([scores.values[name] for name in NAMES], wanted, atol=1e-9)
    wanted = [np.nan if one is None else one for one in COCO[f"ap_per_category_{kind}"]]
    np.testing.assert_allclose(scores.per_category, wanted, atol=1e-9)


def test_nothing_found_is_zero() -> None:
    scores = coco_scores(COCO["gt"], [], "bbox")
    assert scores.values["ap"] == 0
    assert len(scores.per_category) == len(COCO["gt"]["categories"])

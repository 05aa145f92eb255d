"""Linear SVMs against DenseCL's scripts, run with scikit-learn 1.9.1."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cp2.augment.distortion import normalize
from cp2.protocols.svm.features import pooled, squared, unit_rows
from cp2.protocols.svm.fitting import (
    Split,
    average_precision,
    decide,
    envelope_area,
    fit_and_score,
    score_class,
)
from cp2.settings.protocols.svm import SvmSchedule

RELEASED = SvmSchedule()
SLOW = 2  # place of cost 100, whose solver does not converge


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "svm.npz") as data:
        return dict(data)


def split(golden, features, labels, column):
    return Split(unit_rows(golden[f"{features}_features"]), golden[labels][:, column])


def test_averages_precision_at_all_points(golden):
    for case in "ab":
        targets, scores = golden[f"ap_targets_{case}"], golden[f"ap_scores_{case}"]
        found = average_precision(targets[targets != -1] == 1, scores[targets != -1])
        low, high = golden["ap_range_b"] if case == "b" else 2 * [golden["ap_value_a"]]
        assert low - 1e-12 <= found <= high + 1e-12  # b has ties, which nothing orders
    area = envelope_area(golden["curve_recall"], golden["curve_precision"])
    assert abs(area - golden["curve_ap"]) < 1e-12


def test_prepares_images_and_features(golden):
    picture = torch.from_numpy(golden["picture"]).permute(2, 0, 1)
    seen = normalize(squared(picture, RELEASED)[None].float() / 255)[0, :, ::4, ::4]
    np.testing.assert_allclose(seen.numpy(), golden["picture_input"], atol=1e-6)
    found = pooled(torch.from_numpy(golden["pool_map"]), RELEASED.pool)
    np.testing.assert_allclose(found.numpy(), golden["pool_feature"], atol=1e-6)
    np.testing.assert_allclose(unit_rows(golden["norm_in"]), golden["norm_out"], rtol=1e-12)


@pytest.mark.parametrize("column", range(4))
def test_chooses_costs_and_scores(golden, column):
    np.testing.assert_array_equal(RELEASED.costs, golden["costs"])
    train = split(golden, "train", "train_labels", column)
    test = split(golden, "test", "test_labels", column)
    found = score_class(train, test, RELEASED, column, 4)
    apart = np.abs(np.array(found.cross_validation) - golden["cv_ap"][column])
    assert np.delete(apart, SLOW).max() < 1e-3
    assert apart[SLOW] < 0.02
    assert found.cost == golden["chosen_cost"][column]
    assert abs(found.ap[0] - golden["test_ap"][column]) < 1e-3
    assert abs(found.ap[0] - golden["test_ap_without_class_weights"][column]) > 1e-3 or column == 1
    scores = decide(train, test.features, found.cost, RELEASED)
    np.testing.assert_allclose(scores, golden["test_decision"][column], atol=1e-3)


@pytest.mark.parametrize("column", range(4))
def test_scores_few_shots(golden, column):
    train = split(golden, "train", "lowshot_labels", column)
    rows = train.labels != -1
    train = Split(train.features[rows], train.labels[rows])
    test = split(golden, "test", "test_labels", column)
    found = fit_and_score(train, test, 1.0, RELEASED)
    assert abs(found - golden["lowshot_test_ap"][column]) < 1e-3

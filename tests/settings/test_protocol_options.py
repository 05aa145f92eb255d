"""What protocols and columns refuse."""

import json

import pytest
from pydantic import ValidationError

from cp2.settings.base import Settings, added, hashed_fields
from cp2.settings.optimization import StepSettings
from cp2.settings.protocols.segmentation import FinetuneOptimizer

OPTIMIZER = {"kind": "sgd", "weight_decay_random_head": 0, "weight_decay_pretrained_head": 0}
STEP, POLY = {"milestones": [0.5]}, {"power": 0.9}


@pytest.mark.parametrize("schedules", [{}, {"step": STEP, "poly": POLY}])
def test_a_rate_falls_in_one_way(schedules):
    with pytest.raises(ValidationError, match="needs poly or step, and not both"):
        FinetuneOptimizer.model_validate_json(json.dumps(OPTIMIZER | schedules))


@pytest.mark.parametrize("milestones", [[0.9, 0.7], [0.5, 0.5], [], [1.2]])
def test_milestones_are_rising_shares(milestones):
    with pytest.raises(ValidationError):
        StepSettings.model_validate_json(json.dumps({"milestones": milestones}))


def test_an_added_field_counts_only_where_it_is_used():
    class Old(Settings):
        lr: float

    class New(Settings):
        lr: float
        stride: int | None = added(None)

    assert hashed_fields(New(lr=0.1)) == hashed_fields(Old(lr=0.1))
    assert hashed_fields(New(lr=0.1, stride=8)) == {"lr": 0.1, "stride": 8}

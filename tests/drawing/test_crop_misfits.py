"""Crops that can hardly overlap as much as they must are refused by the plan, and only those."""

import re

import pytest

from cp2.drawing.crops import crop_misfit
from cp2.settings.views import ViewSettings


@pytest.mark.parametrize(
    ("scale", "least"), [((0.2, 0.3), 1.0), ((0.01, 0.01), 0.01), ((0.08, 1.0), 1.0)]
)
def test_crops_that_can_hardly_overlap_so_much(scale, least):
    reason = crop_misfit(ViewSettings(crop_scale=scale, min_overlap=least))
    assert reason
    assert re.search(r"^views.min_overlap .*of \d+% of the pairs .*choose", reason)


@pytest.mark.parametrize(
    ("scale", "least"), [((0.08, 1.0), 0.01), ((0.2, 1.0), 0.0), ((0.9, 1.0), 0.8)]
)
def test_others(scale, least):
    assert crop_misfit(ViewSettings(crop_scale=scale, min_overlap=least)) is None


def test_views_that_hardly_meet():
    views = ViewSettings(crop_scale=(0.01, 0.01), min_overlap=0.01, without_overlap="any")
    assert "views would hardly meet; choose a smaller" in crop_misfit(views)

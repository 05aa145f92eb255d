"""Settings under which two crops can hardly overlap as much as they must."""

import pytest
from pydantic import ValidationError

from cp2.augment import views
from cp2.augment.counters import generator
from cp2.settings.overlaps import central_share
from cp2.settings.views import ViewSettings

RATIO = (0.75, 4 / 3)


@pytest.mark.parametrize(
    ("scale", "least"),
    [((0.08, 1.0), 0.01), ((0.08, 1.0), 0.5), ((0.2, 0.3), 0.7), ((0.05, 0.06), 0.01)],
)
def test_the_trial_is_of_the_crops_that_are_drawn(scale, least):
    settings = ViewSettings(crop_scale=scale, min_overlap=least)
    shares = []
    for number, (height, width) in enumerate(((400, 400), (300, 400), (400, 300))):
        rng = generator(0, 3, number, 0)
        pairs = [
            views.draw_second_crop(
                rng, height, width, settings, views.draw_crop(rng, height, width, scale, RATIO)
            )
            for _ in range(400)
        ]
        shares.append(sum(first == second for first, second in pairs) / len(pairs))
    assert central_share(scale, RATIO, least) == pytest.approx(min(shares), abs=0.08)


@pytest.mark.parametrize(
    ("scale", "least"), [((0.2, 0.3), 1.0), ((0.01, 0.01), 0.01), ((0.08, 1.0), 1.0)]
)
def test_crops_that_can_hardly_overlap_so_much_are_refused(scale, least):
    with pytest.raises(ValidationError, match=r"min_overlap .*of \d+% of the pairs .*choose"):
        ViewSettings(crop_scale=scale, min_overlap=least)


@pytest.mark.parametrize(
    ("scale", "least"), [((0.08, 1.0), 0.01), ((0.2, 1.0), 0.0), ((0.9, 1.0), 0.8)]
)
def test_others_are_not(scale, least):
    assert ViewSettings(crop_scale=scale, min_overlap=least).min_overlap == least

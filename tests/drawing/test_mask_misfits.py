"""Masks that can hardly be drawn are refused by the plan, and only those."""

import random
import re

import numpy as np
import pytest

from cp2.drawing.masks import draw_masks, mask_misfit
from cp2.drawing.polygons import share_that_fits
from cp2.settings.masks import PatchesMaskSettings, PolygonMaskSettings, RectangleMaskSettings


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (RectangleMaskSettings(area=(0.97, 1.0)), r"[3-8]% of such rectangles fit into 224 x 224"),
        (RectangleMaskSettings(aspect=(4.0, 5.0)), " 0% of such rectangles"),
        (
            PatchesMaskSettings(kind="patches", patch=112, area=(0.501, 0.502)),
            "of 2 x 2 patches no number makes such a share",
        ),
        (PolygonMaskSettings(kind="polygon", area=(0.95, 0.95)), "0.0% fit into the image"),
    ],
)
def test_masks_that_do_not_fit(mask, text):
    reason = mask_misfit(mask, 224)
    assert reason
    assert reason.startswith("mask.area")
    assert re.search(text, reason)


@pytest.mark.parametrize("size", [224, 96, 32])
@pytest.mark.parametrize(
    "mask",
    [
        RectangleMaskSettings(),
        RectangleMaskSettings(area=(0.2, 0.9), aspect=(0.3, 3.3), aspect_sampling="log"),
        PatchesMaskSettings(kind="patches"),
        PolygonMaskSettings(kind="polygon"),
    ],
)
def test_masks_that_fit_are_drawn(mask, size):
    assert mask_misfit(mask, size) is None
    assert draw_masks(np.random.default_rng(0), 5, size, mask).shape == (5, size, size)


@pytest.mark.parametrize(("area", "vertices"), [(0.8, 6), (0.7, 6), (0.6, 12)])
def test_the_share_of_polygons_that_fit(area, vertices):
    """A slow second implementation, one polygon at a time."""
    draw = random.Random(0)
    fitting = 0
    for _ in range(2000):
        start, shape = draw.random(), []
        for k in range(vertices):
            side, part = divmod(4 * ((k + draw.random() + start) / vertices % 1), 1)
            a = 2 * part - 1
            y, x = [(-1.0, a), (a, 1.0), (1.0, -a), (-a, -1.0)][int(side)]
            pull = draw.uniform(0.6, 1)
            shape.append((pull * y, pull * x))
        pairs = zip(shape, [*shape[1:], shape[0]], strict=True)
        own = abs(sum(y0 * x1 - x0 * y1 for (y0, x0), (y1, x1) in pairs)) / 2
        extent = max(max(axis) - min(axis) for axis in zip(*shape, strict=True))
        fitting += extent * (area / own) ** 0.5 <= 1
    ours = share_that_fits(np.random.default_rng(0), vertices, area, 20_000)
    assert ours == pytest.approx(fitting / 2000, abs=0.04)

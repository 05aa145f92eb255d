"""Polygon, blocks and patches: share and shape."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import kstest

from cp2.augment.copy_paste import downsample, pack, unpack
from cp2.drawing.counters import generator
from cp2.drawing.masks import draw_blocks, draw_masks
from cp2.drawing.polygons import draw_polygon, fill
from cp2.errors import UserError
from cp2.settings.masks import (
    BlocksMaskSettings,
    DinoMaskSettings,
    FullMaskSettings,
    PatchesMaskSettings,
    PolygonMaskSettings,
    RectangleMaskSettings,
)

SIZE = 224
POLYGON = PolygonMaskSettings(kind="polygon")
BLOCKS = BlocksMaskSettings(kind="blocks")
PATCHES = PatchesMaskSettings(kind="patches")
ALL = [RectangleMaskSettings(), POLYGON, BLOCKS, PATCHES]


def draw(settings, n=600, size=SIZE, seed=0):
    return draw_masks(generator(seed, 4), n, size, settings)


def name(settings):
    return settings.kind


@pytest.mark.parametrize("settings", [POLYGON, BLOCKS], ids=name)
def test_the_share_is_uniform_in_its_range(settings):
    shares = draw(settings).mean((1, 2))
    assert kstest(shares, "uniform", (0.5, 0.3)).pvalue > 1e-3
    assert shares.min() > 0.498
    assert shares.max() < 0.804


def test_every_allowed_number_of_patches_is_equally_likely():
    shares = draw(PATCHES, n=4000).mean((1, 2))
    counts = np.bincount(np.rint(shares * 196).astype(int), minlength=197)
    assert counts[98:157].min() > 0  # 0.5 x 196 to 0.8 x 196
    assert counts[98:157].sum() == 4000
    expected = 4000 / 59
    assert ((counts[98:157] - expected) ** 2 / expected).sum() < 105  # chi-square, p = 1e-4


@pytest.mark.parametrize("settings", ALL, ids=name)
@pytest.mark.parametrize("area", [(0.2, 0.2), (0.6, 0.6)])
def test_another_area_is_kept(settings, area):
    chosen = settings.model_copy(
        update={"area": area, "patch": 1} if settings is PATCHES else {"area": area}
    )
    size = 120 if settings is PATCHES else SIZE
    shares = draw(chosen, n=20, size=size).mean((1, 2))
    np.testing.assert_allclose(shares, area[0], atol=0.006)


@pytest.mark.parametrize("settings", ALL, ids=name)
@pytest.mark.parametrize("size", [32, 96, 224])
def test_every_mask_has_foreground_and_background_cells(settings, size):
    masks = torch.from_numpy(pack(draw(settings, n=200, size=size)))
    cells = downsample(unpack(masks, size), 16).flatten(1)
    assert cells.amax(1).min() == 1
    if size == 224:  # a large rectangle may leave out no cell of a small image
        assert cells.amin(1).max() == 0


@pytest.mark.parametrize("settings", ALL, ids=name)
def test_masks_are_a_function_of_their_counters(settings):
    assert np.array_equal(draw(settings, n=3), draw(settings, n=3))
    assert not np.array_equal(draw(settings, n=1), draw(settings, n=1, seed=1))
    first, second = draw(settings, n=2)
    assert not np.array_equal(first, second)


def test_a_polygon_is_one_piece_without_holes():
    for mask in draw(POLYGON, n=200, size=96):
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1  # tips may hang on by a corner
        assert ndimage.label(np.pad(~mask, 1, constant_values=True))[1] == 1


def test_polygons_have_the_asked_number_of_vertices_inside_the_image():
    rng = generator(0, 4)
    counts = set()
    for _ in range(200):
        vertices = draw_polygon(rng, POLYGON)
        counts.add(len(vertices))
        assert vertices.min() >= -1e-9
        assert vertices.max() <= 1 + 1e-9
    assert counts == set(range(6, 13))


def test_polygons_lie_everywhere():
    """Bounding boxes touch no side more often than its opposite one."""
    centres = [draw_polygon(generator(0, 4, i), POLYGON).mean(0) for i in range(400)]
    np.testing.assert_allclose(np.mean(centres, 0), 0.5, atol=0.02)


def even_odd(vertices, size):
    """Slow second implementation: cross products, one pixel at a time."""
    inside = np.zeros((size, size), dtype=bool)
    for i in range(size):
        for j in range(size):
            y, x = i + 0.5, j + 0.5
            for (y0, x0), (y1, x1) in zip(vertices, np.roll(vertices, -1, 0), strict=True):
                if (y0 <= y) != (y1 <= y):
                    side = (x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)
                    inside[i, j] ^= (side >= 0) == (y1 > y0)
    return inside


@pytest.mark.parametrize("size", [1, 7, 16])
def test_filling_follows_the_even_odd_rule(size):
    rng = generator(1, 4)
    for _ in range(10):
        vertices = rng.uniform(-0.2, 1.2, (7, 2)) * size  # self-crossing and partly outside, too
        assert np.array_equal(fill(vertices, size), even_odd(vertices, size))


def test_filling_a_rectangle_takes_the_pixels_with_their_centres_in_it():
    inside = fill(np.array([[1.0, 2], [1, 6.4], [3.5, 6.4], [3.5, 2]]), 8)
    expected = np.zeros((8, 8), dtype=bool)
    expected[1:3, 2:6] = True
    assert np.array_equal(inside, expected)


def test_an_impossible_polygon_is_named():
    with pytest.raises(UserError, match=r"no polygon with area \[0\.99, 1\.0\].*smaller area"):
        draw(PolygonMaskSettings(kind="polygon", area=(0.99, 1.0)), n=1)


def test_blocks_are_as_many_as_asked_and_cover_their_share():
    rng = generator(0, 4)
    counts = set()
    for _ in range(200):
        boxes = draw_blocks(rng, 96, BLOCKS)
        counts.add(len(boxes))
        assert boxes.min() >= 0
        assert boxes.max() <= 96
        mask = np.zeros((96, 96), dtype=bool)
        for top, left, bottom, right in boxes:
            mask[top:bottom, left:right] = True
        assert 0.495 < mask.mean() < 0.82  # edges are whole pixels
    assert counts == set(range(4, 9))


def test_whole_blocks_keep_their_aspect():
    rng = generator(0, 4)
    boxes = np.concatenate([draw_blocks(rng, 1000, BLOCKS) for _ in range(100)])
    whole = boxes[(boxes > 0).all(1) & (boxes < 1000).all(1)]
    aspects = (whole[:, 2] - whole[:, 0]) / (whole[:, 3] - whole[:, 1])
    assert 0.49 < aspects.min() < 0.55
    assert 1.8 < aspects.max() < 2.05
    assert abs(np.log(aspects).mean()) < 0.1


def test_patches_lie_on_their_grid_and_everywhere_alike():
    masks = draw(PATCHES, n=1000)
    cells = masks.reshape(-1, 14, 16, 14, 16)
    assert np.array_equal(cells.any((2, 4)), cells.all((2, 4)))
    frequency = cells[:, :, 0, :, 0].mean(0)
    np.testing.assert_allclose(frequency, 0.648, atol=0.08)  # five standard deviations


def test_an_impossible_share_of_patches_is_named():
    with pytest.raises(UserError, match=r"area \[0\.5, 0\.8\].* of 1 x 1 patches no number"):
        draw(PATCHES, n=1, size=16)


@pytest.mark.parametrize(
    "settings", [DinoMaskSettings(kind="dino"), FullMaskSettings(kind="full")], ids=name
)
def test_kinds_without_randomness_are_not_drawn(settings):
    with pytest.raises(ValueError, match=f"{settings.kind} are not drawn"):
        draw(settings, n=1)

"""Where views lie: overlap and centres against cells looked at one by one, and against pixels."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from cp2.augment import views
from cp2.augment.pipeline import prepare
from cp2.augment.samples import PretrainDataset, SampleSpec
from cp2.augment.view_boxes import overlap_mask, position_centres, position_diagonals, view_box
from cp2.drawing.counters import generator
from cp2.drawing.crops import draw_crop, draw_second_crop, overlap
from cp2.settings.methods import MoCoV2Settings
from cp2.settings.views import ViewSettings


def drawn_boxes(count, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        height, width = rng.integers(5, 60, 2)
        top, left = rng.integers(0, 40, 2)
        rows.append([top, left, height, width, rng.integers(2)])
    return torch.tensor(np.array(rows, dtype=np.int64))


def slow_overlap(own, other, side):
    """The overlap in the view's own coordinates, mirrored with it, times `side`, cut off."""
    top, left, height, width, mirrored = (Fraction(int(x)) for x in own)
    y0, x0 = max(top, int(other[0])), max(left, int(other[1]))
    y1 = min(top + height, int(other[0] + other[2]))
    x1 = min(left + width, int(other[1] + other[3]))
    mask = torch.zeros(side, side, dtype=torch.bool)
    if y0 >= y1 or x0 >= x1:
        return mask.flatten()
    y0, y1 = (y0 - top) / height, (y1 - top) / height
    x0, x1 = (x0 - left) / width, (x1 - left) / width
    if mirrored:
        x0, x1 = 1 - x1, 1 - x0
    rows, columns = (slice(int(a * side), int(b * side)) for a, b in ((y0, y1), (x0, x1)))
    mask[rows, columns] = True
    return mask.flatten()


@pytest.mark.parametrize("side", [1, 3, 7])
def test_overlap_mask_against_fractions(side):
    own, other = drawn_boxes(400), drawn_boxes(400, seed=1)
    expected = torch.stack([slow_overlap(a, b, side) for a, b in zip(own, other, strict=True)])
    assert torch.equal(overlap_mask(own, other, side), expected)
    assert 0.05 < expected.float().mean() < 0.9


def painted_overlap(own, other, side, rounded):
    """By pixels: the other view is painted, and the own one cut out of the picture and mirrored.

    Each pixel is made 2 * side wide, so that cells end between pixels. Cut off, a cell counts when
    its last pixel is painted; rounded, when the last one before its middle is.
    """
    picture = np.zeros((110, 110), dtype=bool)
    top, left, height, width, _ = other.tolist()
    picture[top : top + height, left : left + width] = True
    top, left, height, width, mirrored = own.tolist()
    view = picture[top : top + height, left : left + width]
    view = view[:, ::-1] if mirrored else view
    view = view.repeat(2 * side, axis=0).repeat(2 * side, axis=1)  # cells of 2h x 2w pixels
    rows, columns = (
        np.arange(side) * 2 * size + (size if rounded else 2 * size) - 1 for size in (height, width)
    )
    return torch.from_numpy(view[np.ix_(rows, columns)].copy()).flatten()


@pytest.mark.parametrize("side", [1, 3, 7])
@pytest.mark.parametrize("rounded", [False, True])
def test_overlap_mask_against_painted_pixels(side, rounded):
    own, other = drawn_boxes(200, seed=2), drawn_boxes(200, seed=3)
    found = overlap_mask(own, other, side, rounded)
    for mask, one, two in zip(found, own, other, strict=True):
        assert torch.equal(mask, painted_overlap(one, two, side, rounded)), (one, two)


def test_a_view_lies_in_itself_and_not_in_one_elsewhere():
    here = torch.tensor([[0, 0, 14, 21, 1]])
    assert overlap_mask(here, here, 7).all()
    assert not overlap_mask(here, torch.tensor([[14, 0, 14, 21, 0]]), 7).any()


def test_centres_are_where_the_pixels_come_from(tmp_path):
    """The picture's red is its column and its green its row, so each cell's colour is its place."""
    column, row = np.meshgrid(np.arange(240), np.arange(200))
    picture = np.stack([column, row, 0 * row], axis=2).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "place.png")
    still = ViewSettings(crop_size=28, jitter_probability=0, gray_probability=0, blur_probability=0)
    settings = MoCoV2Settings(name="t", title="", kind="moco-v2", optimizer={}, views=still)
    dataset = PretrainDataset([tmp_path / "place.png"], settings, seed=0)
    samples = [dataset[SampleSpec(epoch, 0, 0, ())] for epoch in range(12)]
    batch = type(samples[0])(*(torch.stack(parts) for parts in zip(*samples, strict=True)))
    assert {0, 1} == set(batch.view_boxes[:, :, 4].flatten().tolist())
    assert (batch.view_boxes[:, :, 5:] == torch.tensor([200, 240])).all()
    prepared = prepare(batch, settings, "cpu")
    mean, std = torch.tensor([0.485, 0.456]), torch.tensor([0.229, 0.224])
    for view, images in enumerate((prepared.images_q, prepared.images_k)):
        cells = torch.nn.functional.avg_pool2d(images[:, :2], 4).flatten(2).transpose(1, 2)
        found = ((cells * std + mean) * 255).flip(2) + 0.5  # row, column; a pixel's middle
        centres = position_centres(prepared.view_boxes[:, view], 7)
        inner = [9, 17, 24, 31, 39]  # away from the border, where resizing has less to average
        torch.testing.assert_close(found[:, inner], centres[:, inner], atol=1.0, rtol=0)
    swapped = prepared.swapped()
    assert torch.equal(swapped.view_boxes[:, 0], prepared.view_boxes[:, 1])
    assert swapped.images_k is prepared.images_q


def test_position_diagonals():
    boxes = torch.tensor([[[0, 0, 21, 28, 0], [5, 5, 42, 56, 1]]])
    torch.testing.assert_close(position_diagonals(boxes, 7), torch.tensor([[5.0, 10.0]]))


def test_a_view_box_knows_flip_and_image():
    parameters = np.zeros(views.PARAMETERS)
    parameters[views.FLIP] = 1
    assert view_box((1, 2, 3, 4), parameters, (90, 120)) == [1, 2, 3, 4, 1, 90, 120]


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_second_crops_overlap_the_first(share):
    settings = ViewSettings(crop_scale=(0.08, 1.0), min_overlap=share)
    rng = generator(0, 3, 0, 0)
    for _ in range(300):
        first = draw_crop(rng, 90, 120, settings.crop_scale, settings.crop_ratio)
        box, other = draw_second_crop(rng, 90, 120, settings, first)
        assert overlap(box, other) >= share


def test_after_ten_misses_both_views_are_the_centre():
    settings = ViewSettings(crop_scale=(0.5, 0.5), crop_ratio=(1.0, 1.0), min_overlap=0.5)
    boxes = draw_second_crop(generator(0, 3, 0, 0), 90, 120, settings, (0, 0, 3, 3))
    assert boxes == ((0, 15, 90, 90), (0, 15, 90, 90))


def test_overlap_is_a_share_of_the_second_box():
    assert overlap((0, 0, 10, 10), (5, 5, 10, 10)) == 0.25
    assert overlap((0, 0, 100, 100), (5, 5, 10, 10)) == 1
    assert overlap((0, 0, 5, 5), (5, 5, 10, 10)) == 0


def test_after_ten_misses_the_second_may_be_any():
    settings = ViewSettings(crop_scale=(0.5, 0.5), min_overlap=0.5, without_overlap="any")
    first = (0, 0, 3, 3)
    rng, again = generator(0, 3, 0, 0), generator(0, 3, 0, 0)
    boxes = draw_second_crop(rng, 90, 120, settings, first)
    drawn = [draw_crop(again, 90, 120, (0.5, 0.5), settings.crop_ratio) for _ in range(11)]
    assert boxes == (first, drawn[-1])

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision import transforms

from cp2.augment.copy_paste import compose, downsample, pack, unpack
from cp2.drawing.counters import generator
from cp2.drawing.masks import draw_masks, draw_rectangles
from cp2.errors import UserError
from cp2.settings.masks import RectangleMaskSettings


def test_log_sampled_rectangles_are_distributed_as_random_erasings():
    """torchvision's RandomErasing draws the aspect log-uniformly since 0.9."""
    settings = RectangleMaskSettings(aspect_sampling="log")
    ours = draw_rectangles(generator(0, 4), 4000, 224, settings)
    torch.manual_seed(0)
    image = torch.empty(3, 224, 224)
    theirs = np.array(
        [
            transforms.RandomErasing.get_params(image, (0.5, 0.8), (0.8, 1.25), [0.0])[:4]
            for _ in range(4000)
        ]
    )
    for side in range(4):
        assert ks_2samp(ours[:, side], theirs[:, side], method="asymp").pvalue > 1e-3


def test_published_rectangles_cover_what_the_released_code_covers():
    """Mean area 0.650; 128.3 of 196 cells on average, 81 to 169 (200k draws of that code)."""
    boxes = torch.from_numpy(draw_rectangles(generator(0, 4), 4000, 224, RectangleMaskSettings()))
    area = (boxes[:, 2] * boxes[:, 3]).float() / 224**2
    assert area.mean().item() == pytest.approx(0.650, abs=0.006)
    assert area.min() > 0.495
    assert area.max() < 0.806
    drawn = draw_masks(generator(0, 4), 4000, 224, RectangleMaskSettings())
    cells = downsample(unpack(torch.from_numpy(pack(drawn)), 224), 16).sum((1, 2, 3))
    assert cells.mean().item() == pytest.approx(128.3, abs=1.2)
    assert cells.min() >= 81
    assert cells.max() <= 169


def test_uniform_and_log_aspect_differ_as_they_should():
    means = []
    for sampling in ("uniform", "log"):
        settings = RectangleMaskSettings(area=(0.2, 0.3), aspect_sampling=sampling)
        boxes = draw_rectangles(generator(0, 4), 4000, 1000, settings)
        means.append((boxes[:, 2] / boxes[:, 3]).mean())
    assert means[0] == pytest.approx((0.8 + 1.25) / 2, abs=0.01)
    assert means[1] == pytest.approx((1.25 - 0.8) / np.log(1.25 / 0.8), abs=0.01)


@pytest.mark.parametrize("size", [3, 15, 16, 17, 32])
def test_rectangles_stay_strictly_smaller_than_the_image(size):
    for top, left, height, width in draw_rectangles(
        generator(0, 4), 200, size, RectangleMaskSettings()
    ):
        assert 0 < height < size
        assert 0 < width < size
        assert 0 <= top <= size - height
        assert 0 <= left <= size - width


def test_impossible_rectangles_are_named():
    with pytest.raises(UserError, match=r"area \[1\.0, 1\.0\].*smaller area"):
        draw_rectangles(generator(0, 4), 1, 32, RectangleMaskSettings(area=(1.0, 1.0)))


def test_masks_are_true_inside_their_rectangle():
    masks = draw_masks(generator(0, 4), 5, 9, RectangleMaskSettings())
    boxes = draw_rectangles(generator(0, 4), 5, 9, RectangleMaskSettings())
    for mask, (top, left, height, width) in zip(masks, boxes, strict=True):
        expected = np.zeros((9, 9), dtype=bool)
        expected[top : top + height, left : left + width] = True
        assert np.array_equal(mask, expected)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 96])
def test_packed_masks_come_back(size):
    masks = generator(0, 4).random((3, 2, size, size)) < 0.5
    bits = torch.from_numpy(pack(masks))
    assert bits.shape == (3, 2, size, -(-size // 8))
    for side in range(2):
        pixels = unpack(bits[:, side], size)
        assert pixels.dtype == torch.float32
        assert np.array_equal(pixels[:, 0].numpy() == 1, masks[:, side])


@pytest.mark.parametrize("stride", [1, 2, 16])
def test_downsampling_takes_points_from_half_a_stride_on(stride):
    mask = torch.rand(2, 1, 32, 32)
    points = downsample(mask, stride)
    assert points.shape == (2, 1, 32 // stride, 32 // stride)
    for i in range(32 // stride):
        for j in range(32 // stride):
            pixel = mask[:, :, stride // 2 + i * stride, stride // 2 + j * stride]
            assert torch.equal(points[:, :, i, j], pixel)


def test_composition_takes_each_pixel_from_its_own_place():
    foreground, background = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    mask = (torch.rand(2, 1, 8, 8) < 0.5).float()
    expected = foreground * mask + background * (1 - mask)
    assert torch.equal(compose(foreground, background, mask), expected)

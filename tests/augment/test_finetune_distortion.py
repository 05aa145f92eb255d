"""Photometric distortion against a pixel-by-pixel formula."""

import colorsys

import numpy as np
import pytest
import torch

from cp2.augment.distortion import (
    BRIGHTNESS,
    CONTRAST_FIRST,
    CONTRAST_LAST,
    HUE,
    SATURATION,
    distort,
    draw_distortion,
    normalize,
    scale_saturation,
)
from cp2.drawing.counters import generator
from cp2.settings.models import IMAGENET_MEAN, IMAGENET_STD
from cp2.settings.protocols.segmentation import FinetuneAugmentation

SETTINGS = FinetuneAugmentation(crop=(8, 8), resize=(8, 32))


def slow(pixel: tuple[float, ...], row: np.ndarray) -> tuple[float, ...]:
    """One pixel through mmsegmentation's five steps, without its rounding."""

    def clip(values: list[float]) -> list[float]:
        return [min(max(v, 0.0), 1.0) for v in values]

    values = clip([v + float(row[BRIGHTNESS]) for v in pixel])
    values = clip([v * float(row[CONTRAST_FIRST]) for v in values])
    hue, saturation, value = colorsys.rgb_to_hsv(*values)
    saturation = min(saturation * float(row[SATURATION]), 1.0)
    values = list(colorsys.hsv_to_rgb((hue + float(row[HUE])) % 1, saturation, value))
    return tuple(clip([v * float(row[CONTRAST_LAST]) for v in values]))


def test_equals_the_slow_formula() -> None:
    torch.manual_seed(0)
    images = torch.rand(12, 3, 4, 5)
    rows = np.stack([draw_distortion(generator(0, 6, i), SETTINGS) for i in range(12)])
    before = images.clone()
    result = distort(images, torch.from_numpy(rows))
    assert torch.equal(images, before)  # the input is left alone
    for n in range(12):
        for i in range(4):
            for j in range(5):
                expected = slow(tuple(images[n, :, i, j].tolist()), rows[n])
                assert result[n, :, i, j].tolist() == pytest.approx(expected, abs=1e-5)


def test_neutral_parameters_change_nothing() -> None:
    images = torch.rand(2, 3, 4, 4)
    rows = torch.tensor([[0.0, 1.0, 1.0, 1.0, 0.0]] * 2)
    torch.testing.assert_close(distort(images, rows), images, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pixel", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.3, 0.3, 0.3), (1, 0, 0)])
def test_saturation_of_extreme_pixels(pixel: tuple[float, float, float]) -> None:
    images = torch.tensor(pixel).float().view(1, 3, 1, 1)
    result = scale_saturation(images, torch.tensor([1.5]))
    torch.testing.assert_close(result, images)  # grey has none, red cannot have more


def test_distribution_of_the_parameters() -> None:
    rows = np.stack([draw_distortion(generator(2, 6, i), SETTINGS) for i in range(4000)])
    neutral = np.array([0, 1, 1, 1, 0], dtype=np.float32)
    used = (rows != neutral).mean(0)
    assert used == pytest.approx([0.5, 0.25, 0.25, 0.5, 0.5], abs=0.04)
    assert not ((rows[:, CONTRAST_FIRST] != 1) & (rows[:, CONTRAST_LAST] != 1)).any()
    assert np.abs(rows[:, BRIGHTNESS]).max() == pytest.approx(32 / 255, rel=0.01)
    assert np.abs(rows[:, HUE]).max() == pytest.approx(0.1, rel=0.01)
    for column in (CONTRAST_FIRST, CONTRAST_LAST, SATURATION):
        assert rows[:, column].min() == pytest.approx(0.5, abs=0.01)
        assert rows[:, column].max() == pytest.approx(1.5, abs=0.01)


def test_probability_zero_leaves_all_out() -> None:
    settings = SETTINGS.model_copy(update={"photometric_probability": 0.0})
    rows = [draw_distortion(generator(0, 6, i), settings).tolist() for i in range(20)]
    assert rows == [[0, 1, 1, 1, 0]] * 20


def test_normalize() -> None:
    images = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) + torch.zeros(2, 3, 2, 2)
    assert torch.equal(normalize(images), torch.zeros(2, 3, 2, 2))
    shifted = images + torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    torch.testing.assert_close(normalize(shifted), torch.ones(2, 3, 2, 2))


def test_legacy_normalisation_takes_grey_levels() -> None:
    """(x - 0.485) / 0.229 and so on of x in 0 to 255, as mmcv computes with PixCon's values."""
    levels = torch.randint(0, 256, (2, 3, 4, 5))
    found = normalize(levels / 255, "legacy")
    for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)):
        expected = (levels[:, channel].double() - mean) / std
        torch.testing.assert_close(found[:, channel].double(), expected, rtol=1e-5, atol=1e-3)

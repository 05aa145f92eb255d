import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision import transforms

from cp2.augment import views
from cp2.drawing.counters import generator
from cp2.drawing.crops import draw_crop
from cp2.settings.views import ViewSettings

SCALE, RATIO = (0.2, 1.0), (3 / 4, 4 / 3)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (60, 300)])
def test_crops_are_distributed_as_torchvisions(height, width):
    draws = 4000
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = [
        transforms.RandomResizedCrop.get_params(image, list(SCALE), list(RATIO))
        for _ in range(draws)
    ]
    ours = [draw_crop(generator(0, 3, 0, i), height, width, SCALE, RATIO) for i in range(draws)]
    for theirs_side, ours_side in zip(np.array(theirs).T, np.array(ours).T, strict=True):
        assert ks_2samp(theirs_side, ours_side, method="asymp").pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (50, 1), (7, 400), (224, 224)])
def test_every_crop_lies_inside_the_image(height, width):
    for i in range(300):
        top, left, h, w = draw_crop(generator(1, 3, 0, i), height, width, SCALE, RATIO)
        assert top >= 0
        assert left >= 0
        assert h >= 1
        assert w >= 1
        assert top + h <= height
        assert left + w <= width


@pytest.mark.parametrize(("height", "width"), [(10, 300), (300, 10)])
def test_where_no_crop_fits_the_largest_central_one_is_taken(height, width):
    """As torchvision's fallback."""
    theirs = transforms.RandomResizedCrop.get_params(
        torch.empty(3, height, width), [1.0, 1.0], list(RATIO)
    )
    ours = draw_crop(generator(0, 3, 0, 0), height, width, (1.0, 1.0), RATIO)
    assert ours == theirs


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_crop_equals_pils_crop_and_antialiased_resize(mode):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(90, 120, 3), dtype=np.uint8)
    ours = views.crop(torch.from_numpy(pixels).permute(2, 0, 1), (5, 10, 70, 100), 48, mode)
    box = Image.fromarray(pixels).crop((10, 5, 110, 75))
    theirs = np.asarray(box.resize((48, 48), Image.Resampling[mode.upper()])).astype(int)
    assert ours.dtype == torch.uint8
    assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 1


def _rows(settings, draws=6000):
    return np.stack([views.draw_photometric(generator(0, 3, 0, i), settings) for i in range(draws)])


def test_photometric_parameters_are_distributed_as_torchvisions():
    rows = _rows(ViewSettings(jitter_probability=1.0))
    torch.manual_seed(0)
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    theirs = [
        jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        for _ in range(6000)
    ]
    for column, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        factors = [draw[1 + column] for draw in theirs]
        assert ks_2samp(rows[:, column], factors, method="asymp").pvalue > 1e-3, name


def test_all_orders_are_equally_likely():
    rows = _rows(ViewSettings())
    orders, counts = np.unique(rows[:, views.ORDER], axis=0, return_counts=True)
    assert len(orders) == 24
    assert np.abs(counts - 250).max() < 4 * math.sqrt(250)


def test_probabilities_and_ranges():
    rows = _rows(ViewSettings())
    for column, probability in (
        (views.JITTER, 0.8),
        (views.GRAY, 0.2),
        (views.FLIP, 0.5),
        (views.SIGMA, 0.5),
    ):
        error = math.sqrt(probability * (1 - probability) / len(rows))
        assert abs((rows[:, column] > 0).mean() - probability) < 4 * error
    sigma = rows[rows[:, views.SIGMA] > 0, views.SIGMA]
    assert ks_2samp(sigma, np.linspace(0.1, 2.0, 5000), method="asymp").pvalue > 1e-3
    plain = rows[rows[:, views.JITTER] == 0]
    assert (plain[:, :4] == [1, 1, 1, 0]).all()


def test_strong_jitter_has_no_negative_factor():
    rows = _rows(ViewSettings(brightness=1.0, contrast=1.0, saturation=1.0), draws=500)
    assert rows[:, :3].min() >= 0


def test_switched_off_augmentation():
    off = ViewSettings(
        jitter_probability=0, gray_probability=0, blur_probability=0, flip_probability=0
    )
    rows = _rows(off, draws=50)
    assert (rows[:, [views.JITTER, views.GRAY, views.SIGMA, views.FLIP]] == 0).all()

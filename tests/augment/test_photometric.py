import colorsys
import itertools

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import functional as pil_functional
from torchvision.transforms.v2 import functional

from cp2.augment import photometric, views
from cp2.augment.box_blur import box_radius
from cp2.augment.views import draw_photometric
from cp2.drawing.counters import generator
from cp2.settings.views import ViewSettings

SIZE = 48


def photo_like(n=6, size=SIZE):
    """Smooth colour fields with some noise, uint8 (n, 3, size, size)."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, size=(n, 3, 6, 6))).float()
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    noise = torch.from_numpy(rng.normal(0, 6, size=(n, 3, size, size)))
    return (smooth + noise).clamp(0, 255).to(torch.uint8)


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pil(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


# Each PIL operation rounds to 8 bits. So does its HSV, and torchvision cuts the shift off to
# 1/256 turns (0.1 becomes 25/256): single saturated pixels move by more.
PIL_OPERATIONS = [
    (photometric.adjust_brightness, pil_functional.adjust_brightness, (0.6, 1.4), 1.0),
    (photometric.adjust_contrast, pil_functional.adjust_contrast, (0.6, 1.4), 1.5),
    (photometric.adjust_saturation, pil_functional.adjust_saturation, (0.6, 1.4), 2.0),
    (photometric.adjust_hue, pil_functional.adjust_hue, (-0.1, 0.1), 16.0),
]


@pytest.mark.parametrize(("ours", "theirs", "bounds", "levels"), PIL_OPERATIONS)
def test_operations_equal_pils_up_to_rounding(ours, theirs, bounds, levels):
    images = photo_like()
    factors = torch.linspace(*bounds, len(images))
    result = ours(images.float() / 255, factors) * 255
    for image, factor, got in zip(images, factors.tolist(), result, strict=True):
        expected = from_pil(theirs(to_pil(image), factor))
        assert (got - expected).abs().max() <= levels
        assert (got - expected).abs().mean() <= 1.5


FLOAT_OPERATIONS = [
    (photometric.adjust_brightness, functional.adjust_brightness, (0.0, 2.0)),
    (photometric.adjust_contrast, functional.adjust_contrast, (0.0, 2.0)),
    (photometric.adjust_saturation, functional.adjust_saturation, (0.0, 2.0)),
    (photometric.adjust_hue, functional.adjust_hue, (-0.5, 0.5)),
]


@pytest.mark.parametrize(("ours", "theirs", "bounds"), FLOAT_OPERATIONS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_operations_equal_torchvisions_in_floating_point(ours, theirs, bounds, memory_format):
    images = (photo_like().float() / 255).contiguous(memory_format=memory_format)
    images[0, :, :4] = 0.5  # grey pixels: hue is undefined
    images[1, :, :4] = 0.0
    images[2, :, :4] = 1.0
    factors = torch.linspace(*bounds, len(images))
    result = ours(images, factors)
    expected = torch.stack(
        [theirs(image, factor) for image, factor in zip(images, factors.tolist(), strict=True)]
    )
    # torchvision's grey weights have four digits (0.2989), PIL's and ours three (0.299).
    torch.testing.assert_close(result, expected, atol=5e-4, rtol=0)
    assert result.is_contiguous(memory_format=memory_format)


# Grey, black, white, the borders of the sextants (two equal channels), and pale colours.
LEVELS = (0.0, 0.25, 0.5, 1.0)
PIXELS = list(itertools.product(LEVELS, LEVELS, LEVELS))
PIXELS += list(itertools.product((0.5, 128 / 255, 0.5 + 1e-5), repeat=3))
SHIFTS = (-0.7, -0.5, -1 / 3, -1 / 6, -0.01, 0.0, 0.01, 1 / 6, 0.25, 1 / 3, 0.5, 0.7)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("saturate", [None, 0.0, 0.3, 1.2])
def test_hue_equals_the_standard_librarys_pixel_by_pixel(saturate, memory_format):
    colours = torch.tensor(PIXELS).T.reshape(1, 3, 7, 13)
    images = colours.repeat(len(SHIFTS), 1, 1, 1).contiguous(memory_format=memory_format)
    more = None if saturate is None else torch.full((len(SHIFTS),), saturate)
    result = photometric.adjust_hue(images, torch.tensor(SHIFTS), more)
    for shift, got in zip(SHIFTS, result.flatten(2), strict=True):
        for pixel, turned in zip(colours.flatten(2)[0].T.tolist(), got.T.tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            saturation = min(1.0, saturation + (saturate or 0.0))
            expected = colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)
            assert turned == pytest.approx(expected, abs=2e-6, rel=0), (pixel, shift)
    in_place = photometric.adjust_hue(images, torch.tensor(SHIFTS), more, out=images)
    assert in_place is images
    assert torch.equal(images, result)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5, 1.0, 1.3, 1.99])
def test_blur_equals_pils(sigma):
    images = photo_like(2)
    result = photometric.gaussian_blur(images.float() / 255, torch.full((2,), sigma)) * 255
    for image, got in zip(images, result, strict=True):
        expected = from_pil(to_pil(image).filter(ImageFilter.GaussianBlur(radius=sigma)))
        assert (got - expected).abs().max() <= 3  # six roundings to 8 bits


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_is_nearly_gaussian_with_its_sigma(sigma):
    line = torch.zeros(1, 3, 41, 41)
    line[:, :, 20, 20] = 1
    spread = photometric.gaussian_blur(line, torch.tensor([sigma]))[0, 0].sum(0)
    offset = torch.arange(41) - 20.0
    assert spread.sum().item() == pytest.approx(1, abs=1e-5)
    assert (spread * offset**2).sum().item() == pytest.approx(sigma**2, rel=1e-3)
    gaussian = torch.exp(-(offset**2) / (2 * sigma**2))
    torch.testing.assert_close(spread, gaussian / gaussian.sum(), atol=0.02, rtol=0)


def test_blur_of_a_rectangular_image_leaves_constants_alone():
    images = torch.full((2, 3, 20, 33), 0.3)
    blurred = photometric.gaussian_blur(images, torch.tensor([2.0, 0.2]))
    torch.testing.assert_close(blurred, images)


def by_passes(line, sigma):
    """One line of pixels, float64 (size,), after three passes of a box with the border repeated."""
    radius = float(box_radius(torch.tensor([sigma]))[0])
    whole, part = int(radius), radius - int(radius)
    weights = np.array([part, *[1.0] * (2 * whole + 1), part]) / (2 * radius + 1)
    for _ in range(3):
        line = np.convolve(np.pad(line, whole + 1, mode="edge"), weights, mode="valid")
    return line


@pytest.mark.parametrize(("height", "width"), [(64, 64), (61, 40), (15, 100)])
def test_blur_equals_passes_of_a_box_line_by_line(height, width):
    """Sizes that the blur's blocks divide and do not, and one that is a single block."""
    sigmas = [0.2, 1.0, 1.4143, 2.0, 3.1]
    images = torch.rand(len(sigmas), 3, height, width, generator=torch.Generator().manual_seed(0))
    result = photometric.gaussian_blur(images, torch.tensor(sigmas))
    assert result.is_contiguous()
    expected = images.double().numpy()
    for sample, sigma in enumerate(sigmas):
        for axis in (1, 2):
            expected[sample] = np.apply_along_axis(by_passes, axis, expected[sample], sigma)
    torch.testing.assert_close(result.double(), torch.from_numpy(expected), atol=2e-6, rtol=0)


def by_pil(image, row):
    """The published recipe on one image with given parameters, uint8 levels before normalising."""
    picture = to_pil(image)
    operations = (
        pil_functional.adjust_brightness,
        pil_functional.adjust_contrast,
        pil_functional.adjust_saturation,
        pil_functional.adjust_hue,
    )
    if row[views.JITTER]:
        for which in row[views.ORDER].astype(int):
            picture = operations[which](picture, float(row[which]))
    if row[views.GRAY]:
        picture = pil_functional.to_grayscale(picture, num_output_channels=3)
    if row[views.SIGMA]:
        picture = picture.filter(ImageFilter.GaussianBlur(radius=float(row[views.SIGMA])))
    if row[views.FLIP]:
        picture = pil_functional.hflip(picture)
    return from_pil(picture)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_whole_augmentation_equals_the_published_order_of_pil_operations(memory_format):
    images = photo_like(64)
    rows = np.stack([draw_photometric(generator(0, 3, 0, i), ViewSettings()) for i in range(64)])
    crops = images.contiguous(memory_format=memory_format)
    result = photometric.augment_views(crops, torch.from_numpy(rows))
    mean = torch.tensor(photometric.IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(photometric.IMAGENET_STD).view(3, 1, 1)
    levels = (result * std + mean) * 255
    errors = [
        (got - by_pil(image, row)).abs().mean().item()
        for got, image, row in zip(levels, images, rows, strict=True)
    ]
    assert max(errors) < 2.5
    assert np.mean(errors) < 1.5


def test_order_matters_and_is_each_samples_own():
    images = photo_like(1).expand(2, -1, -1, -1)
    rows = torch.zeros(2, views.PARAMETERS)
    rows[:, views.JITTER] = 1
    rows[:, :3] = torch.tensor([1.4, 0.6, 1.4])
    rows[0, views.ORDER] = torch.tensor([0.0, 1, 2, 3])
    rows[1, views.ORDER] = torch.tensor([2.0, 1, 0, 3])
    both = photometric.augment_views(images, rows)
    assert (both[0] - both[1]).abs().max() > 0.02
    for sample in range(2):
        alone = photometric.augment_views(images[:1], rows[sample : sample + 1])
        torch.testing.assert_close(both[sample : sample + 1], alone)


def test_neutral_parameters_only_normalise():
    images = photo_like(3)
    rows = torch.zeros(3, views.PARAMETERS)
    rows[:, :3] = 1
    result = photometric.augment_views(images, rows, mean=(0.0, 0.0, 0.0), std=(1.0, 0.5, 1.0))
    expected = images.float() / 255
    expected[:, 1] *= 2
    torch.testing.assert_close(result, expected)


def test_flip_mirrors_the_flagged_samples_only():
    images = photo_like(2)
    rows = torch.zeros(2, views.PARAMETERS)
    rows[:, :3] = 1
    rows[1, views.FLIP] = 1
    result = photometric.augment_views(images, rows, mean=(0.0,) * 3, std=(1.0,) * 3) * 255
    torch.testing.assert_close(result[0], images[0].float())
    torch.testing.assert_close(result[1], images[1].flip(-1).float())


def test_the_result_is_channels_last_in_the_samples_order():
    images = photo_like(9)
    rows = np.stack([draw_photometric(generator(1, 3, 0, i), ViewSettings()) for i in range(9)])
    parameters = torch.from_numpy(rows)
    together = photometric.augment_views(images, parameters)
    assert together.is_contiguous(memory_format=torch.channels_last)
    for sample in range(9):
        alone = photometric.augment_views(images[sample, None], parameters[sample, None])
        torch.testing.assert_close(together[sample, None], alone)


def test_pieces_of_a_batch_are_augmented_like_the_whole(monkeypatch):
    """A CPU works on pieces; 9 samples in pieces of 2 have an incomplete last one."""
    images = photo_like(9)
    rows = np.stack([draw_photometric(generator(1, 3, 0, i), ViewSettings()) for i in range(9)])
    whole = photometric.augment_views(images, torch.from_numpy(rows))
    monkeypatch.setattr(photometric, "_piece", lambda _: 2)
    pieces = photometric.augment_views(images, torch.from_numpy(rows))
    torch.testing.assert_close(pieces, whole)


def test_the_number_of_kernels_does_not_grow_with_the_batch():
    """Operators that touch pixels; a slot that no sample uses may be missing from a small batch.

    Counted on the meta device, which like a GPU works on the whole batch at once.
    """
    counts = []
    for n in (24, 96):
        rows = np.stack([draw_photometric(generator(2, 3, 0, i), ViewSettings()) for i in range(n)])
        crops = photo_like(n).to("meta")
        with CountPixelOperators(3 * SIZE * SIZE) as counter:
            photometric.augment_views(crops, torch.from_numpy(rows))
        counts.append(counter.count)
    assert counts[0] <= counts[1] <= 66


class CountPixelOperators(TorchDispatchMode):
    """Counts operators on tensors of at least `least` elements, views left out."""

    def __init__(self, least):
        super().__init__()
        self.least, self.count = least, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in (*args, result) if isinstance(x, torch.Tensor)]
        view = func.is_view or "empty" in func.name() or "view" in func.name()
        if not view and any(x.numel() >= self.least for x in tensors):
            self.count += 1
        return result

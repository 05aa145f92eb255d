"""The part of a view that is drawn and cropped on the CPU, in a data loader's worker."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from cp2.settings.views import ViewSettings

# Columns of a row of photometric parameters.
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0, 1, 2, 3  # factors; hue is a shift in turns
ORDER = slice(4, 8)  # ORDER[slot] = which of the four comes in that slot
GRAY = 8  # 1: make it grey
SIGMA = 9  # of the blur, pixels; 0: none
FLIP = 10  # 1: mirror left-right
JITTER = 11  # 0: the colour jitter is left out (factors are then neutral)
SOLARIZE = 12  # 1: invert what is bright
PARAMETERS = 13

Box = tuple[int, int, int, int]  # top, left, height, width

CROP_TRIES = 10  # torchvision's RandomResizedCrop


def draw_crop(
    rng: np.random.Generator,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Box:
    """A crop (top, left, height, width) with the distribution of torchvision's RandomResizedCrop.

    `scale`: share of the image's area, uniform. `ratio`: width / height, log-uniform. After ten
    crops that do not fit, the largest central crop of an allowed ratio.
    """
    for _ in range(CROP_TRIES):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(0, height - h, endpoint=True))
            left = int(rng.integers(0, width - w, endpoint=True))
            return top, left, h, w
    return central_crop(height, width, ratio)


def central_crop(height: int, width: int, ratio: tuple[float, float]) -> Box:
    """The largest crop of an allowed ratio, in the middle."""
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w = min(width, max(1, round(height * aspect)))
    h = min(height, max(1, round(width / aspect)))
    return (height - h) // 2, (width - w) // 2, h, w


def draw_second_crop(
    rng: np.random.Generator, height: int, width: int, settings: ViewSettings, first: Box
) -> tuple[Box, Box]:
    """A crop of the same image that overlaps the first by `min_overlap` of its own area.

    Returns:
        Both boxes: after ten crops that do not overlap so much, both are the central crop.
    """
    for _ in range(CROP_TRIES):
        box = draw_crop(rng, height, width, settings.crop_scale, settings.crop_ratio)
        if overlap(first, box) >= settings.min_overlap:
            return first, box
    middle = central_crop(height, width, settings.crop_ratio)
    return middle, middle


def overlap(box: Box, other: Box) -> float:
    """Share of `other` that lies in `box`."""
    height = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    width = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(height, 0) * max(width, 0) / (other[2] * other[3])


def crop(image: torch.Tensor, box: Box, size: int) -> torch.Tensor:
    """Cut `box` out of a uint8 (3, H, W) image and resize it to (3, size, size), antialiased.

    The result is channels last in memory, and resizing is fastest where the source is, too. GPUs
    resize no bytes: there it is done in float32 and rounded, which differs by one level at most.
    """
    top, left, height, width = box
    part = image[None, :, top : top + height, left : left + width]
    part = part.contiguous(memory_format=torch.channels_last)
    if not image.is_cpu:
        part = part.float()
    view = F.interpolate(part, size=(size, size), mode="bilinear", antialias=True)[0]
    return view.round_().clamp_(0, 255).byte() if view.is_floating_point() else view


def draw_photometric(rng: np.random.Generator, settings: ViewSettings) -> np.ndarray:
    """One view's photometric parameters, (PARAMETERS,) float32; see the column names above.

    Distributions of torchvision's ColorJitter and RandomGrayscale, of MoCo v2's GaussianBlur and
    of a random flip (MoCo v2 release, "aug-plus"); BYOL's solarisation where asked for.
    """
    row = np.zeros(PARAMETERS, dtype=np.float32)
    row[[BRIGHTNESS, CONTRAST, SATURATION]] = 1
    row[ORDER] = rng.permutation(4)
    if rng.random() < settings.jitter_probability:
        row[JITTER] = 1
        row[BRIGHTNESS] = rng.uniform(max(0, 1 - settings.brightness), 1 + settings.brightness)
        row[CONTRAST] = rng.uniform(max(0, 1 - settings.contrast), 1 + settings.contrast)
        row[SATURATION] = rng.uniform(max(0, 1 - settings.saturation), 1 + settings.saturation)
        row[HUE] = rng.uniform(-settings.hue, settings.hue)
    row[GRAY] = rng.random() < settings.gray_probability
    if rng.random() < settings.blur_probability:
        row[SIGMA] = rng.uniform(*settings.blur_sigma)
    row[FLIP] = rng.random() < settings.flip_probability
    if settings.solarize_probability:  # no number is drawn where it cannot happen
        row[SOLARIZE] = rng.random() < settings.solarize_probability
    return row

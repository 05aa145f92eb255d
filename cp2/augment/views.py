"""The part of a view that is drawn and cropped on the CPU, in a data loader's worker."""

import numpy as np
import torch
from torch.nn import functional as F

from cp2.drawing.crops import Box
from cp2.settings.views import ViewSettings

# Columns of a row of photometric parameters.
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0, 1, 2, 3  # factors; hue is a shift in turns
ORDER = slice(4, 8)  # ORDER[slot] = which of the four comes in that slot
GRAY = 8  # 1: make it grey
SIGMA = 9  # of the blur, pixels; 0: none
FLIP = 10  # 1: mirror left-right
JITTER = 11  # 0: the colour jitter is left out (factors are then neutral); 2: PixCon's release
SOLARIZE = 12  # 1: invert what is bright
PARAMETERS = 13
RELEASED = 2  # in column JITTER


def crop(image: torch.Tensor, box: Box, size: int, mode: str = "bilinear") -> torch.Tensor:
    """Cut `box` out of a uint8 (3, H, W) image and resize it to (3, size, size), antialiased.

    The result is channels last in memory, and resizing is fastest where the source is, too. GPUs
    resize no bytes: there it is done in float32 and rounded, which differs by one level at most.
    """
    top, left, height, width = box
    part = image[None, :, top : top + height, left : left + width]
    part = part.contiguous(memory_format=torch.channels_last)
    if not image.is_cpu:
        part = part.float()
    view = F.interpolate(part, size=(size, size), mode=mode, antialias=True)[0]
    return view.round_().clamp_(0, 255).byte() if view.is_floating_point() else view


def draw_photometric(rng: np.random.Generator, settings: ViewSettings) -> np.ndarray:
    """One view's photometric parameters, (PARAMETERS,) float32; see the column names above.

    Distributions of torchvision's ColorJitter and RandomGrayscale, of MoCo v2's GaussianBlur and
    of a random flip (MoCo v2 release, "aug-plus"); BYOL's solarisation where asked for. With
    `jitter: released` SATURATION is added and HUE in turns, for `released_jitter`.
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
        if settings.jitter == "released":
            row[JITTER] = RELEASED
            row[SATURATION] = int(row[SATURATION] * 255) / 255  # added, in OpenCV's steps
            row[HUE] = int(row[HUE] * 255) / 180  # so up to 25 of its 180 steps of a turn
    row[GRAY] = rng.random() < settings.gray_probability
    if rng.random() < settings.blur_probability:
        row[SIGMA] = rng.uniform(*settings.blur_sigma)
    row[FLIP] = rng.random() < settings.flip_probability
    if settings.solarize_probability:  # no number is drawn where it cannot happen
        row[SOLARIZE] = rng.random() < settings.solarize_probability
    return row

"""Photometric distortion of finetuning (mmsegmentation's), on the device, a batch at a time.

mmsegmentation rounds to 8 bits after each operation and its hue to 2 degrees; here both are real
numbers.
"""

import numpy as np
import torch
from torch import Tensor

from cp2.augment.photometric import (
    adjust_brightness,
    adjust_hue,
    send,
)
from cp2.settings.models import IMAGENET_MEAN, IMAGENET_STD
from cp2.settings.protocols.segmentation import FinetuneAugmentation, Normalization

# Columns of a row of parameters. Neutral: 0, 1, 1, 1, 0.
BRIGHTNESS, CONTRAST_FIRST, CONTRAST_LAST, SATURATION, HUE = range(5)
PARAMETERS = 5
GRAY_LEVELS = 255.0
HUE_STEPS = 180.0  # a full turn in the unit of `settings.hue`


def draw_distortion(rng: np.random.Generator, settings: FinetuneAugmentation) -> np.ndarray:
    """One sample's parameters, (PARAMETERS,) float32; see the column names above.

    Each of the four is left out with 1 - `photometric_probability`; contrast comes before or after
    saturation and hue with equal probability.
    """
    row = np.array([0, 1, 1, 1, 0], dtype=np.float32)
    probability = settings.photometric_probability
    if rng.random() < probability:
        row[BRIGHTNESS] = rng.uniform(-settings.brightness, settings.brightness) / GRAY_LEVELS
    contrast = CONTRAST_FIRST if rng.random() < 0.5 else CONTRAST_LAST
    if rng.random() < probability:
        row[contrast] = rng.uniform(*settings.contrast)
    if rng.random() < probability:
        row[SATURATION] = rng.uniform(*settings.saturation)
    if rng.random() < probability:
        row[HUE] = rng.uniform(-settings.hue, settings.hue) / HUE_STEPS
    return row


def distort(images: Tensor, parameters: Tensor) -> Tensor:
    """Brightness, contrast, saturation, hue, contrast: float (N, 3, H, W) in [0, 1], same shape.

    Contrast is a factor on all values (not a blend with the mean), saturation a factor on HSV's S,
    and each result is clipped, as in mmsegmentation.

    Args:
        parameters: float32 (N, PARAMETERS) of `draw_distortion`, on the host.
    """
    rows = send(parameters, images.device)
    images = (images + rows[:, BRIGHTNESS].view(-1, 1, 1, 1)).clamp_(0, 1)
    images = adjust_brightness(images, rows[:, CONTRAST_FIRST])
    images = scale_saturation(images, rows[:, SATURATION])
    turned = parameters[:, HUE].nonzero()[:, 0]
    if len(turned):
        index = send(turned, images.device)
        images.index_copy_(0, index, adjust_hue(images[index], rows[index, HUE]))
    return adjust_brightness(images, rows[:, CONTRAST_LAST])


def scale_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """HSV's S times a factor (N,), at most 1; hue and value stay. Images float (N, 3, H, W)."""
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    # S = chroma / value: a factor on S is one on the distances from the value.
    limit = value / chroma.clamp(min=torch.finfo(images.dtype).tiny)
    return value - (value - images) * torch.minimum(factors.view(-1, 1, 1, 1), limit)


def normalize(images: Tensor, kind: Normalization = "imagenet") -> Tensor:
    """(x - mean) / std with ImageNet's statistics; images float (N, 3, H, W) in [0, 1].

    With `legacy`, x are grey levels of 0 to 255 (PixCon's and SlotCon's configurations).
    """
    if kind == "legacy":
        images = images * GRAY_LEVELS
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - send(mean, images.device)) / send(std, images.device)

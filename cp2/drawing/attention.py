"""Foreground by stored self-attention: the image's mask, cropped and flipped with its view."""

import math

import numpy as np

from cp2.drawing.crops import Box
from cp2.settings.masks import DinoMaskSettings

STRIDE = 16  # of the feature map that masks are sampled for: the output stride of all defaults


def attention_mask(
    ranks: np.ndarray,
    image: tuple[int, int],
    box: Box,
    flip: bool,
    size: int,
    settings: DinoMaskSettings,
) -> np.ndarray:
    """The mask of one view, bool (size, size).

    Foreground is the smallest region of the image that holds `settings.mass` of its attention.
    Where less than `settings.min_area` of the view is foreground, it is the most attended
    `min_area` of the view, because the losses need a foreground in every view.

    Args:
        ranks: the whole image's map, uint8 (side, side); see `MapsRecord`.
        image: height and width of the image that `box` refers to.
        box: the view's crop (top, left, height, width).
        flip: whether the view is mirrored left-right.
    """
    top, left, height, width = box
    rows = _interpolation(top / image[0], height / image[0], len(ranks), size)
    columns = _interpolation(left / image[1], width / image[1], len(ranks), size)
    values = rows @ ranks.astype(np.float32) @ columns.T
    if flip:
        values = values[:, ::-1]
    start, step = (STRIDE // 2, STRIDE) if size >= STRIDE else (size // 2, size)
    sampled = np.sort(values[start::step, start::step], axis=None)
    fewest = math.ceil(settings.min_area * len(sampled))
    threshold = min(255 * (1 - settings.mass), float(sampled[-fewest]))
    return values >= threshold


def _interpolation(start: float, length: float, side: int, size: int) -> np.ndarray:
    """Weights (size, side) that resample a part of a line of points bilinearly, clamped at ends.

    The line is one unit long, the part `start` to `start + length`; both hold pixels' centres.
    """
    where = (start + length * (np.arange(size) + 0.5) / size) * side - 0.5
    distance = np.abs(where.clip(0, side - 1)[:, None] - np.arange(side))
    return (1 - distance).clip(0).astype(np.float32)

"""Logits of whole images at their original size: the whole image at once, or sliding windows."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cp2.settings.protocols.segmentation import InferenceSettings

PIXELS_AT_ONCE = 8 * 769 * 769  # of windows: all of a Cityscapes image (mmsegmentation's)


def infer(
    model: nn.Module,
    image: Tensor,
    original: tuple[int, int],
    settings: InferenceSettings,
    align_corners: bool = False,
) -> Tensor:
    """Class logits (1, classes, *original) of one normalised image (1, 3, H, W).

    The model's map is enlarged to the image or window first and then to the original size, both
    bilinearly (mmsegmentation).
    """
    if settings.window is None or settings.stride is None:
        logits = _enlarged(model, image, align_corners)
    else:
        logits = _slide(model, image, settings.window, settings.stride, align_corners)
    return _resize(logits, original, align_corners)


def _enlarged(model: nn.Module, images: Tensor, align_corners: bool) -> Tensor:
    return _resize(model(images), (images.shape[2], images.shape[3]), align_corners)


def _resize(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    if tuple(logits.shape[2:]) == size:
        return logits.float()
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=align_corners)


def _slide(
    model: nn.Module,
    image: Tensor,
    window: tuple[int, int],
    stride: tuple[int, int],
    align_corners: bool,
) -> Tensor:
    """Mean of the logits of all windows over each pixel, (1, classes, H, W)."""
    height, width = image.shape[2:]
    h, w = min(window[0], height), min(window[1], width)
    corners = [
        (top, left)
        for top in window_starts(height, h, stride[0])
        for left in window_starts(width, w, stride[1])
    ]
    total: Tensor | None = None
    times = torch.zeros(height, width, device=image.device)
    at_once = max(1, PIXELS_AT_ONCE // (h * w))
    for first in range(0, len(corners), at_once):
        some = corners[first : first + at_once]
        windows = torch.cat([image[:, :, y : y + h, x : x + w] for y, x in some])
        logits = _enlarged(model, windows, align_corners)
        if total is None:
            total = logits.new_zeros(1, logits.shape[1], height, width)
        for (top, left), one in zip(some, logits, strict=True):
            total[0, :, top : top + h, left : left + w] += one
            times[top : top + h, left : left + w] += 1
    assert total is not None  # there is at least one window
    return total / times


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one side; the last window ends with the image."""
    count = -(-(size - window) // stride) + 1
    return [min(i * stride, size - window) for i in range(count)]

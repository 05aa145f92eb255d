"""Copy-paste composition of views and backgrounds (CP² Eq. 1), and the masks' way to it."""

from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.methods import CopyPasteSettings


def pastes(settings: PretrainingSettings) -> TypeGuard[CopyPasteSettings]:
    """Whether the method's views are composed with backgrounds."""
    return isinstance(settings, CopyPasteSettings) and settings.pastes


def compose(foreground: Tensor, background: Tensor, mask: Tensor) -> Tensor:
    """foreground * mask + background * (1 - mask); pixels keep their own position.

    Images (N, 3, S, S), mask (N, 1, S, S) in [0, 1].
    """
    return torch.lerp(background, foreground, mask)


def pack(masks: np.ndarray) -> np.ndarray:
    """bool (..., size) to uint8 (..., ceil(size / 8)), eight pixels a byte."""
    return np.packbits(masks, axis=-1)


def unpack(bits: Tensor, size: int) -> Tensor:
    """What `pack` made of masks (N, size, size), on any device, as float32 (N, 1, size, size)."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    pixels = (bits[..., None] >> shifts) & 1
    return pixels.flatten(-2)[..., :size].float()[:, None]


def downsample(masks: Tensor, stride: int) -> Tensor:
    """Every stride-th pixel from stride // 2 on: point sampling, not pooling (released code).

    (N, 1, S, S) to (N, 1, S / stride, S / stride) where S is a multiple of the stride.
    """
    return masks[..., stride // 2 :: stride, stride // 2 :: stride]

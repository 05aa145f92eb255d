"""Pictures for the eye: image, label and prediction side by side."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cp2.data.labels import IGNORE
from cp2.record.files import whole_file

Palette = tuple[tuple[int, int, int], ...]
OVERLAY = 0.6  # share of the class colour over the image
GAP = 4  # white pixels between the three


def colour(classes: Tensor, palette: Palette) -> Tensor:
    """Train ids (H, W) -> uint8 (3, H, W); IGNORE is white, a class without a colour black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    table[IGNORE] = 255
    return torch.from_numpy(table[classes.cpu().numpy()]).permute(2, 0, 1)


def write_picture(
    path: Path, image: Tensor, label: Tensor, prediction: Tensor, palette: Palette
) -> None:
    """A PNG: image uint8 (3, H, W), then label and prediction (H, W) laid over it.

    The prediction may be on any device.

    Raises:
        UserError: the disk is full.
    """
    panels = [image.cpu()]
    for classes in (label, prediction):
        mixed = OVERLAY * colour(classes, palette).float() + (1 - OVERLAY) * panels[0].float()
        panels.append(mixed.round().byte())
    gap = torch.full((3, image.shape[1], GAP), 255, dtype=torch.uint8)
    sheet = torch.cat([panels[0], gap, panels[1], gap, panels[2]], dim=2)
    with whole_file(path) as temporary:
        Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(temporary, format="PNG")

"""Prepared data sets, as the training and evaluation loops read them."""

from pathlib import Path

import torch

from cp2.data.index import DatasetIndex, label_fraction, read_index
from cp2.data.labels import IGNORE, read_label

__all__ = ["IGNORE", "DatasetIndex", "decode_label", "label_fraction", "read_index"]


def decode_label(path: Path) -> torch.Tensor:
    """Train ids of one image: uint8 (H, W), IGNORE (255) where nothing counts.

    Raises:
        WrongFile: the file cannot be read or is not one 8-bit channel.
    """
    return torch.from_numpy(read_label(path))

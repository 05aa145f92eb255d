"""Frozen features of images, as DenseCL's release extracts them (tools/extract.py)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from tqdm import tqdm

from cp2.augment.distortion import normalize
from cp2.data.images import decode_rgb
from cp2.data.loading import Batches
from cp2.errors import UserError
from cp2.models.backbones import Backbone
from cp2.settings.protocols.svm import SvmSchedule

BATCH = 64
EPSILON = 1e-5  # added to norms


class SquaredImages(Dataset[Tensor]):
    """Images, uint8 (3, *size)."""

    def __init__(self, paths: Sequence[Path], schedule: SvmSchedule) -> None:
        self._paths, self._schedule = list(paths), schedule

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        return squared(decode_rgb(self._paths[index]), self._schedule)


def squared(image: Tensor, schedule: SvmSchedule) -> Tensor:
    """uint8 (3, H, W) to (3, *size), by way of the short side: twice PIL's bilinear filter."""
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    short = min(picture.size)
    width, height = (max(1, int(schedule.short_side * side / short)) for side in picture.size)
    for size in ((width, height), (schedule.size[1], schedule.size[0])):
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def pooled(maps: Tensor, kernel: int) -> Tensor:
    """(N, C, h, w) -> (N, values): averages at stride 1, channel by channel."""
    return F.avg_pool2d(maps, kernel, stride=1).flatten(1)


def unit_rows(features: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Rows of length 1, nearly: EPSILON is added to their norms."""
    rows = features.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + EPSILON
    return rows


@torch.inference_mode()
def extract(
    backbone: Backbone, paths: Sequence[Path], schedule: SvmSchedule, workers: int
) -> npt.NDArray[np.float64]:
    """Features (images, values) in the images' order, on the backbone's device.

    Raises:
        WrongFile: an image cannot be read.
        UserError: a value is not finite.
    """
    images, device = SquaredImages(paths, schedule), next(backbone.parameters()).device
    pin = device.type == "cuda"
    loaded: Batches[Tensor] = Batches(images, workers, pin, batch_size=BATCH)
    rows: list[npt.NDArray[np.float32]] = []
    for batch in tqdm(loaded, desc="features", unit="batch", disable=None):
        pixels = normalize(batch.to(device, non_blocking=True).float().div_(255))
        rows.append(pooled(backbone(pixels), schedule.pool).float().cpu().numpy())
    features = np.concatenate(rows)
    finite = np.isfinite(features).all(1)
    if not finite.all():
        raise UserError(
            f"features of {paths[int(np.argmin(finite))]} are not finite: the backbone's weights "
            "are damaged, or its pretraining diverged; look at its losses"
        )
    return unit_rows(features)

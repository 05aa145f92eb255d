"""Masks of instances within their boxes (Mask R-CNN), with detectron2's choices."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from cp2.protocols.detection.roi_heads import Size, mean_count

SIDE = 28  # cells of a mask

Polygons = Sequence[npt.NDArray[np.float64]]  # of one instance: x, y, x, y, ... in pixels
Mask = Polygons | Tensor  # or its pixels: uint8 (h, w)


def four_convs(width: int) -> nn.Sequential:
    """3x3 convolutions with norms, (R, width, h, w) -> the same, as both heads of an FPN begin."""
    layers: list[nn.Module] = []
    for _ in range(4):
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class MaskHead(nn.Module):
    """Features (R, channels, 14, 14) -> mask logits (R, classes, 28, 28)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.convs = four_convs(channels)
        self.deconv = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        nn.init.kaiming_normal_(self.deconv.weight, mode="fan_out", nonlinearity="relu")
        assert self.deconv.bias is not None
        nn.init.zeros_(self.deconv.bias)
        self.predictor = nn.Conv2d(channels, classes, 1)
        nn.init.normal_(self.predictor.weight, std=0.001)
        assert self.predictor.bias is not None
        nn.init.zeros_(self.predictor.bias)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.predictor(F.relu(self.deconv(self.convs(features))))
        return logits


def mask_loss(logits: Tensor, classes: Tensor, targets: Tensor) -> Tensor:
    """The mean binary cross entropy of each object's own class; 0 without objects.

    Args:
        logits: (R, classes, 28, 28) of objects' regions.
        classes: (R,).
        targets: (R, 28, 28) bool.
    """
    own = logits[torch.arange(len(logits), device=logits.device), classes].float()
    loss = F.binary_cross_entropy_with_logits(own, targets.to(own.dtype), reduction="sum")
    return loss / (mean_count(len(own), own.device) * SIDE**2)


def mask_targets(masks: Sequence[Mask], boxes: Tensor) -> Tensor:
    """Each instance's mask within its box (R, 4), at 28 x 28: (R, 28, 28) bool.

    Polygons are rasterised; pixels are averaged where cells are larger, as detectron2's bit masks.
    """
    found = torch.zeros(len(boxes), SIDE, SIDE, dtype=torch.bool)
    for row, (one, box) in enumerate(zip(masks, boxes.double().cpu().numpy(), strict=True)):
        if isinstance(one, Tensor):
            region = torch.tensor([[0.0, *box.tolist()]])
            found[row] = (
                roi_align(one[None, None].float(), region, SIDE, sampling_ratio=0, aligned=True)
                >= 0.5
            )[0, 0]
            continue
        scale = SIDE / (box[2:] - box[:2]).clip(min=0.1)
        moved = [(points.reshape(-1, 2) - box[:2]) * scale for points in one]
        found[row] = torch.from_numpy(
            rasterised([points.ravel() for points in moved], (SIDE, SIDE))
        )
    return found.to(boxes.device)


def rasterised(polygons: Polygons, size: Size) -> npt.NDArray[np.bool_]:
    """The union of polygons as a mask of (height, width), by COCO's own rule."""
    coco = coco_module("mask")
    height, width = size
    runs = coco.frPyObjects([points.tolist() for points in polygons], height, width)
    mask: npt.NDArray[np.bool_] = coco.decode(coco.merge(runs)).astype(bool)
    return mask


def decoded(mask: Any, size: Size) -> npt.NDArray[np.uint8]:
    """A mask of COCO, polygons or runs, as pixels (height, width) of 0 and 1."""
    coco = coco_module("mask")
    pixels: npt.NDArray[np.uint8] = coco.decode(encoded(mask, size))
    return pixels


def encoded(mask: Any, size: Size) -> Any:
    """COCO's compressed runs of polygons or of runs, which may be compressed already."""
    coco = coco_module("mask")
    if isinstance(mask, dict) and not isinstance(mask["counts"], list):
        return mask
    if isinstance(mask, list):
        return coco.merge(coco.frPyObjects(mask, *size))
    return coco.frPyObjects(mask, *size)


def runs_of(pixels: npt.NDArray[np.bool_]) -> list[Any]:
    """COCO's compressed runs of each mask of (n, height, width)."""
    runs: list[Any] = coco_module("mask").encode(
        np.asfortranarray(pixels.transpose(1, 2, 0), np.uint8)
    )
    return runs


def coco_module(name: str) -> Any:
    """A module of pycocotools, which has no types."""
    return import_module(f"pycocotools.{name}")


def paste(masks: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Masks of their boxes (R, 4) in an image of (height, width): (R, height, width) bool.

    Args:
        masks: (R, 28, 28) probabilities, sampled bilinearly at the centres of pixels.
    """
    height, width = size
    pasted = torch.zeros(len(masks), height, width, dtype=torch.bool, device=masks.device)
    for row, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        left, top = (box[:2].floor() - 1).clamp(min=0).int().tolist()
        right = min(int(box[2].ceil()) + 1, width)
        bottom = min(int(box[3].ceil()) + 1, height)
        x = (torch.arange(left, right, device=box.device) + 0.5 - box[0]) / (box[2] - box[0])
        y = (torch.arange(top, bottom, device=box.device) + 0.5 - box[1]) / (box[3] - box[1])
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) * 2 - 1
        values = F.grid_sample(mask[None, None].float(), grid[None], align_corners=False)
        pasted[row, top:bottom, left:right] = values[0, 0] >= 0.5
    return pasted

"""Boxes (x0, y0, x1, y1) in pixels: codes of one relative to another, matching and sampling."""

import math

import torch
from torch import Tensor
from torchvision.ops import box_iou

LARGEST = math.log(1000 / 16)  # of dw and dh; exp of more would be no image's
IGNORED, NEGATIVE, POSITIVE = -1, 0, 1

Weights = tuple[float, float, float, float]  # that dx, dy, dw, dh are multiplied with


def encode(boxes: Tensor, to: Tensor, weights: Weights) -> Tensor:
    """dx, dy, dw, dh (N, 4) that lead from `boxes` (N, 4) to `to` (N, 4) (R-CNN, appendix C)."""
    centres, sides = _centres(boxes)
    wanted, wanted_sides = _centres(to)
    codes = torch.cat([(wanted - centres) / sides, (wanted_sides / sides).log()], 1)
    return codes * codes.new_tensor(weights)


def decode(codes: Tensor, boxes: Tensor, weights: Weights) -> Tensor:
    """The boxes (N, 4 K) that codes (N, 4 K) lead to from `boxes` (N, 4); in float32."""
    centres, sides = (part[:, None] for part in _centres(boxes.float()))
    codes = codes.float().unflatten(1, (-1, 4)) / codes.new_tensor(weights, dtype=torch.float32)
    middle = codes[..., :2] * sides + centres
    half = codes[..., 2:].clamp(max=LARGEST).exp() * sides / 2
    return torch.cat([middle - half, middle + half], -1).flatten(1)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (N, 2) and sides (N, 2)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + sides / 2, sides


def has_area(boxes: Tensor) -> Tensor:
    """Whether each box (N, 4) is wider and higher than 0."""
    return (boxes[:, 2:] > boxes[:, :2]).all(1)


def overlap(objects: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union (G, N); 0 where both have no area."""
    return box_iou(objects, boxes).nan_to_num_(0.0)


def match(iou: Tensor, low: float, high: float, keep_best: bool) -> tuple[Tensor, Tensor]:
    """Which object each box belongs to, and whether it is an example of it.

    Args:
        iou: (G, N), objects by boxes.
        low, high: below `low` negative, from `high` on positive, between them ignored.
        keep_best: each object's best boxes are positive whatever their overlap (Faster R-CNN
            sec. 3.1.2). An object that overlaps nothing makes every such box positive, as released.
    Returns:
        Index of the object (N,), 0 where there is none, and label (N,).
    """
    if not len(iou):
        nothing = iou.new_zeros(iou.shape[1], dtype=torch.int64)
        return nothing, nothing.clone()
    best, index = iou.max(0)
    labels = torch.full_like(index, IGNORED)
    labels[best < low] = NEGATIVE
    labels[best >= high] = POSITIVE
    if keep_best:
        labels[(iou == iou.max(1, keepdim=True).values).any(0)] = POSITIVE
    return index, labels


def sample(
    labels: Tensor, count: int, positives: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A random choice of `count` examples, of which at most a share `positives` is positive.

    Returns:
        Indices of the positives and of the negatives; fewer where there are no more.
    """
    positive = (labels == POSITIVE).nonzero()[:, 0]
    negative = (labels == NEGATIVE).nonzero()[:, 0]
    chosen = _some(positive, int(count * positives), generator)
    return chosen, _some(negative, count - len(chosen), generator)


def _some(items: Tensor, count: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(items), generator=generator, device=items.device)
    return items[order[:count]]

"""View boxes: where views lie in their image; overlaps and centres of positions follow.

A view box is int64 (7,): top, left, height and width of the crop in the image's pixels, 1 if the
view was mirrored left-right, height and width of the image. All functions take many, (N, 7), and
cut a view into side x side positions of a feature map, which are numbered row by row.
"""

import numpy as np
import torch
from torch import Tensor

from cp2.augment.views import FLIP
from cp2.drawing.crops import Box


def view_box(box: Box, parameters: np.ndarray, image: tuple[int, int]) -> list[int]:
    """Of a view with these photometric parameters of an image of this height and width."""
    return [*box, int(parameters[FLIP]), *image]


def overlap_mask(boxes: Tensor, others: Tensor, side: int, rounded: bool = False) -> Tensor:
    """Which positions of the views count as lying in the other views: bool (N, side * side).

    The overlap's edges are taken to whole positions downwards (PixCon release): one that is partly
    covered counts at the upper and left edge and does not at the lower and right one. Or, with
    `rounded`, to the nearest: one counts if at least half a side of it is covered.
    """
    rows = _covered(boxes[:, 0], boxes[:, 2], others[:, 0], others[:, 2], side, rounded)
    columns = _covered(
        boxes[:, 1], boxes[:, 3], others[:, 1], others[:, 3], side, rounded, boxes[:, 4] > 0
    )
    return (rows[:, :, None] & columns[:, None, :]).flatten(1)


def _covered(
    start: Tensor,
    size: Tensor,
    other_start: Tensor,
    other_size: Tensor,
    side: int,
    rounded: bool,
    mirrored: Tensor | None = None,
) -> Tensor:
    """Along one axis: bool (N, side). In whole numbers, for divisions without rounding."""
    first = torch.maximum(start, other_start) - start
    last = torch.minimum(start + size, other_start + other_size) - start
    if mirrored is not None:
        first, last = (
            torch.where(mirrored, size - last, first),
            torch.where(mirrored, size - first, last),
        )
    index = torch.arange(side, device=start.device)
    half = size if rounded else torch.zeros_like(size)
    begin, end = ((2 * edge * side + half) // (2 * size) for edge in (first, last))
    return (index >= begin[:, None]) & (index < end[:, None])


def position_centres(boxes: Tensor, side: int) -> Tensor:
    """Centres in the image, float32 (N, side * side, 2): row and column in pixels."""
    steps = (torch.arange(side, device=boxes.device) + 0.5) / side
    rows = boxes[:, 0, None] + steps * boxes[:, 2, None]
    columns = boxes[:, 1, None] + steps * boxes[:, 3, None]
    columns = torch.where(boxes[:, 4, None] > 0, columns.flip(1), columns)
    grid = torch.stack(
        [
            rows[:, :, None].expand(-1, side, side),
            columns[:, None, :].expand(-1, side, side),
        ],
        dim=-1,
    )
    return grid.flatten(1, 2)


def position_diagonals(boxes: Tensor, side: int) -> Tensor:
    """Length of a position's diagonal in the image's pixels, (..., 7) -> (...)."""
    return torch.hypot(boxes[..., 2].float(), boxes[..., 3].float()) / side

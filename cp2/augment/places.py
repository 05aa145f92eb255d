"""Where a view lies in its photograph: boxes, flips, overlaps, cell centres.

A place is int64 (5,): top, left, height, width of the crop in the photograph's pixels, and 1 if
the view was mirrored left-right. All functions take many places, (N, 5), and cut a view into
side x side cells, which are numbered row by row.
"""

import numpy as np
import torch
from torch import Tensor

from cp2.augment.views import FLIP
from cp2.drawing.crops import Box

PLACE = 5


def place(box: Box, parameters: np.ndarray) -> list[int]:
    """Of a view with these photometric parameters."""
    return [*box, int(parameters[FLIP])]


def overlap_mask(places: Tensor, others: Tensor, side: int, rounded: bool = False) -> Tensor:
    """Which cells of the views count as lying in the other views: bool (N, side * side).

    The overlap's edges are taken to whole cells downwards (PixCon release), so that a cell which
    is partly covered counts at the upper and left edge and does not at the lower and right one; or,
    `rounded`, to the nearest, so that cells count of which at least half a side is covered.
    """
    rows = _covered(places[:, 0], places[:, 2], others[:, 0], others[:, 2], side, rounded)
    columns = _covered(
        places[:, 1], places[:, 3], others[:, 1], others[:, 3], side, rounded, places[:, 4] > 0
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
    cells = torch.arange(side, device=start.device)
    half = size if rounded else torch.zeros_like(size)
    begin, end = ((2 * edge * side + half) // (2 * size) for edge in (first, last))
    return (cells >= begin[:, None]) & (cells < end[:, None])


def cell_centres(places: Tensor, side: int) -> Tensor:
    """Centres in the photograph, float32 (N, side * side, 2): row and column in pixels."""
    steps = (torch.arange(side, device=places.device) + 0.5) / side
    rows = places[:, 0, None] + steps * places[:, 2, None]
    columns = places[:, 1, None] + steps * places[:, 3, None]
    columns = torch.where(places[:, 4, None] > 0, columns.flip(1), columns)
    grid = torch.stack(
        [
            rows[:, :, None].expand(-1, side, side),
            columns[:, None, :].expand(-1, side, side),
        ],
        dim=-1,
    )
    return grid.flatten(1, 2)


def cell_diagonals(places: Tensor, side: int) -> Tensor:
    """Length of a cell's diagonal in the photograph's pixels, (..., 5) -> (...)."""
    return torch.hypot(places[..., 2].float(), places[..., 3].float()) / side

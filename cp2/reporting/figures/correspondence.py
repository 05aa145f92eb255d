"""Which cells of two views find each other (DenseCL's Figure 4), over a training or across runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cp2.augment.places import cell_centres, cell_diagonals
from cp2.methods.matching import most_similar
from cp2.reporting.figures.drawing import COLOURS, ReportFigure, save
from cp2.reporting.figures.encoded import SIDE, Moment, features, to_show, two_views, view_size

RIGHT, WRONG = COLOURS[2], COLOURS[1]
GAP = 0.06  # between two views, in widths of a view


def correspondence(
    images: Sequence[Tensor], columns: Sequence[Moment], folder: Path, name: str, seed: int = 0
) -> ReportFigure:
    """Two views of each image side by side, and all pairs of cells that find each other.

    As DenseCL sec. 3.4 keeps matches: the cell of the second view that is most similar to one of
    the first has that one as its own most similar cell. A pair is right where the two centres lie
    within one diagonal of the larger cell in the photograph.

    Args:
        images: uint8 (3, H, W) each; a row of the figure.
        columns: backbones that are compared.
    """
    wide = 2 + GAP
    figure = Figure(
        figsize=(1.7 * wide * len(columns), 1.85 * len(images) + 0.4), layout="constrained"
    )
    panels = figure.subplots(len(images), len(columns), squeeze=False)
    for r, image in enumerate(images):
        for c, moment in enumerate(columns):
            views = two_views(image, view_size(moment.backbone), seed + r)
            found = matches(moment, views.pixels)
            right = judged(views.places, found.partner)
            _draw(panels[r, c], [to_show(p) for p in views.pixels], found, right)
            count = int(found.mutual.sum())
            text = f"{count} matches, {int(right[found.mutual].sum())} of them right"
            panels[r, c].set_title(f"{moment.title}\n{text}" if r == 0 else text, fontsize=8)
    caption = (
        f"Two views of one photograph, {SIDE} x {SIDE} cells each. Lines: all pairs of cells of "
        "which each is the other's most similar cell, by the cosine of the backbone's features "
        "(DenseCL sec. 3.4), without a threshold; green where both show the same place of the "
        "photograph (within a cell's diagonal), orange elsewhere. Views are shown and compared "
        "without changes of colour, and continue beyond their edges as in a mirror."
    )
    return save(figure, folder, name, "Correspondence of two views", caption, photographs=True)


class Matches(NamedTuple):
    """Of each cell of the first view, all (P,)."""

    partner: Tensor  # the most similar cell of the second view
    score: Tensor  # the cosine of the two
    mutual: Tensor  # bool: that cell's own most similar one is this one


def matches(moment: Moment, pixels: Tensor) -> Matches:
    """What the cells of two views, uint8 (2, 3, size, size), find in each other."""
    maps = features(moment.backbone, pixels).flatten(2)
    index, score = most_similar(maps[:1], maps[1:])
    back, _ = most_similar(maps[1:], maps[:1])
    cells = torch.arange(index.shape[1])
    return Matches(index[0], score[0], back[0, index[0]] == cells)


def judged(places: Tensor, index: Tensor) -> Tensor:
    """Which cells of the first view have the right match, bool (P,)."""
    first, second = (cell_centres(places[i : i + 1], SIDE)[0] for i in range(2))
    reach = cell_diagonals(places, SIDE).amax()
    distances = torch.cdist(first, second)
    return distances.gather(1, index[:, None])[:, 0] <= reach


def _draw(panel: Axes, pixels: list[np.ndarray], found: Matches, right: Tensor) -> None:
    """Both views side by side, and lines between the centres of cells that find each other."""
    side_by_side(panel, pixels)
    for cell in found.mutual.nonzero()[:, 0].tolist():
        ends = centre(cell, 0), centre(int(found.partner[cell]), 1)
        xs, ys = zip(*ends, strict=True)
        colour = RIGHT if right[cell] else WRONG
        panel.plot(xs, ys, "-o", color=colour, lw=0.6, ms=1.5, alpha=0.8)


def side_by_side(panel: Axes, pixels: list[np.ndarray]) -> None:
    """Two views of width and height 1, the second one GAP behind the first."""
    for number, view in enumerate(pixels):
        start = number * (1 + GAP)
        panel.imshow(view, extent=(start, start + 1, 1, 0), interpolation="bilinear")
    panel.set(xlim=(0, 2 + GAP), ylim=(1, 0), xticks=[], yticks=[])
    panel.spines[:].set_visible(False)


def centre(cell: int, view: int) -> tuple[float, float]:
    """x and y of a cell's centre in the panel of `side_by_side`."""
    row, column = divmod(cell, SIDE)
    return view * (1 + GAP) + (column + 0.5) / SIDE, (row + 0.5) / SIDE

"""Matches of low similarity where two views overlap (PixCon's Figure 2)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from cp2.augment.places import overlap_mask
from cp2.reporting.figures.correspondence import GAP, centre, matches, side_by_side
from cp2.reporting.figures.drawing import COLOURS, ReportFigure, save
from cp2.reporting.figures.encoded import SIDE, Moment, to_show, two_views, view_size

LOWEST = 5  # matches of each image that are drawn, as many as in the paper
INSIDE, OUTSIDE = COLOURS[0], COLOURS[4]


def overlaps(
    images: Sequence[Tensor], moment: Moment, folder: Path, name: str, seed: int = 0
) -> ReportFigure:
    """For each image: the least similar matches in the overlap, and how similar all are.

    Args:
        images: uint8 (3, H, W) each; a row of the figure.
    """
    figure = Figure(figsize=(9.0, 1.95 * len(images) + 0.4), layout="constrained")
    panels = figure.subplots(
        len(images), 3, squeeze=False, width_ratios=(1.75 * (2 + GAP), 1.75, 2.4)
    )
    for r, image in enumerate(images):
        views = two_views(image, view_size(moment.backbone), seed + r)
        index, score, _ = matches(moment, views.pixels)
        masks = [
            overlap_mask(views.places[i : i + 1], views.places[1 - i : 2 - i], SIDE)[0]
            for i in range(2)
        ]
        _draw(panels[r, 0], [to_show(p) for p in views.pixels], masks, index, score)
        _similarity(panels[r, 1], to_show(views.pixels[0]), score)
        _histogram(panels[r, 2], score[masks[0]].numpy(), score[~masks[0]].numpy())
        if r == 0:
            panels[r, 0].set_title(moment.title, fontsize=8)
            panels[r, 1].set_title("similarity", fontsize=8)
    panels[-1, 2].set_xlabel("cosine with the matched cell", fontsize=8)
    caption = (
        "Two views of one photograph; boxes: cells that count as lying in the other view. Lines: "
        f"the {LOWEST} least similar matches of cells in the left view's box. Middle: how similar "
        "each cell of the left view is to its match, dark where least. Right: the same of the "
        "cells in the box and of those outside. Similarity alone would lower the weight of the "
        "former, too, although both views show the same place."
    )
    return save(figure, folder, name, "Matches in the overlap", caption, photographs=True)


def lowest_inside(mask: Tensor, score: Tensor) -> list[int]:
    """The cells of the mask with the least similar matches, the least similar first."""
    order = score.argsort(stable=True).tolist()
    return [cell for cell in order if mask[cell]][:LOWEST]


def _draw(
    panel: Axes, pixels: list[np.ndarray], masks: list[Tensor], index: Tensor, score: Tensor
) -> None:
    side_by_side(panel, pixels)
    for view, mask in enumerate(masks):
        rows, columns = mask.view(SIDE, SIDE).nonzero(as_tuple=True)
        if not len(rows):
            continue
        top, left = int(rows.min()) / SIDE, int(columns.min()) / SIDE
        height, width = (int(rows.max()) + 1) / SIDE - top, (int(columns.max()) + 1) / SIDE - left
        start = view * (1 + GAP)
        panel.add_patch(
            Rectangle((start + left, top), width, height, fill=False, ec=INSIDE, lw=1.6)
        )
    for cell in lowest_inside(masks[0], score):
        xs, ys = zip(centre(cell, 0), centre(int(index[cell]), 1), strict=True)
        panel.plot(xs, ys, "-o", color=COLOURS[1], lw=0.8, ms=2.5)


def _similarity(panel: Axes, view: np.ndarray, score: Tensor) -> None:
    """The query view in grey, and over it the similarity of each cell with its match."""
    panel.imshow(view.mean(2), cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0))
    heat = score.view(SIDE, SIDE).numpy()
    panel.imshow(heat, cmap="inferno", alpha=0.65, extent=(0, 1, 1, 0), interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)


def _histogram(panel: Axes, inside: np.ndarray, outside: np.ndarray) -> None:
    values = np.concatenate([inside, outside])
    bins = np.linspace(min(float(values.min()), 0.99), 1.0, 21).tolist()
    for name, some, colour in (("in the overlap", inside, INSIDE), ("outside", outside, OUTSIDE)):
        if len(some):
            panel.hist(some, bins, density=True, histtype="step", lw=1.4, color=colour, label=name)
    panel.set_yticks([])
    panel.set_ylim(top=1.35 * panel.get_ylim()[1])  # room for the legend
    panel.tick_params(labelsize=7)
    panel.legend(fontsize=7, frameon=False, loc="upper left")

"""Which positions of two views match: DenseCL's Figure 4 and PixCon's Figure 2."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from cp2.augment.view_boxes import overlap_mask, position_centres, position_diagonals
from cp2.methods.matching import most_similar
from cp2.reporting.figures.drawing import COLOURS, ReportFigure, save
from cp2.reporting.figures.encoded import SIDE, Moment, features, to_show, two_views, view_size

RIGHT, WRONG = COLOURS[2], COLOURS[1]
GAP = 0.06  # between two views, in widths of a view
LOWEST = 5  # matches of each image that are drawn, as many as in the paper
INSIDE, OUTSIDE = COLOURS[0], COLOURS[4]


def correspondence(
    images: Sequence[Tensor], columns: Sequence[Moment], folder: Path, name: str, seed: int = 0
) -> ReportFigure:
    """Two views of each image side by side, and all pairs of positions that find each other.

    As DenseCL sec. 3.4 keeps matches: the position of the second view that is most similar to one
    of the first has that one as its own most similar. A pair is right where, in the image, the two
    centres lie within the diagonal of the larger position.

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
            right = judged(views.boxes, found.partner)
            _draw(panels[r, c], [to_show(p) for p in views.pixels], found, right)
            count = int(found.mutual.sum())
            text = f"{count} matches, {int(right[found.mutual].sum())} of them right"
            panels[r, c].set_title(f"{moment.title}\n{text}" if r == 0 else text, fontsize=8)
    caption = (
        f"Two views of one image, {SIDE} x {SIDE} positions each. Lines: all pairs of positions of "
        "which each is the other's most similar position, by the cosine of the backbone's features "
        "(DenseCL sec. 3.4), without a threshold; green where both show the same part of the "
        "image (within a position's diagonal), orange elsewhere. Views are shown and compared "
        "without changes of colour, and continue beyond their edges as in a mirror."
    )
    return save(figure, folder, name, "Correspondence of two views", caption, pictures=True)


class Matches(NamedTuple):
    """Of each position of the first view, all (P,)."""

    partner: Tensor  # the most similar position of the second view
    score: Tensor  # the cosine of the two
    mutual: Tensor  # bool: that position's own most similar one is this one


def matches(moment: Moment, pixels: Tensor) -> Matches:
    """What the positions of two views, uint8 (2, 3, size, size), find in each other."""
    maps = features(moment.backbone, pixels).flatten(2)
    index, score = most_similar(maps[:1], maps[1:])
    back, _ = most_similar(maps[1:], maps[:1])
    positions = torch.arange(index.shape[1])
    return Matches(index[0], score[0], back[0, index[0]] == positions)


def judged(boxes: Tensor, index: Tensor) -> Tensor:
    """Which positions of the first view have the right match, bool (P,)."""
    first, second = (position_centres(boxes[i : i + 1], SIDE)[0] for i in range(2))
    reach = position_diagonals(boxes, SIDE).amax()
    distances = torch.cdist(first, second)
    return distances.gather(1, index[:, None])[:, 0] <= reach


def _draw(panel: Axes, pixels: list[np.ndarray], found: Matches, right: Tensor) -> None:
    """Both views side by side, and lines between the centres of positions that find each other."""
    side_by_side(panel, pixels)
    for position in found.mutual.nonzero()[:, 0].tolist():
        ends = centre(position, 0), centre(int(found.partner[position]), 1)
        xs, ys = zip(*ends, strict=True)
        colour = RIGHT if right[position] else WRONG
        panel.plot(xs, ys, "-o", color=colour, lw=0.6, ms=1.5, alpha=0.8)


def side_by_side(panel: Axes, pixels: list[np.ndarray]) -> None:
    """Two views of width and height 1, the second one GAP behind the first."""
    for number, view in enumerate(pixels):
        start = number * (1 + GAP)
        panel.imshow(view, extent=(start, start + 1, 1, 0), interpolation="bilinear")
    panel.set(xlim=(0, 2 + GAP), ylim=(1, 0), xticks=[], yticks=[])
    panel.spines[:].set_visible(False)


def centre(position: int, view: int) -> tuple[float, float]:
    """x and y of a position's centre in the panel of `side_by_side`."""
    row, column = divmod(position, SIDE)
    return view * (1 + GAP) + (column + 0.5) / SIDE, (row + 0.5) / SIDE


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
            overlap_mask(views.boxes[i : i + 1], views.boxes[1 - i : 2 - i], SIDE)[0]
            for i in range(2)
        ]
        _draw_lowest(panels[r, 0], [to_show(p) for p in views.pixels], masks, index, score)
        _similarity(panels[r, 1], to_show(views.pixels[0]), score)
        _histogram(panels[r, 2], score[masks[0]].numpy(), score[~masks[0]].numpy())
        if r == 0:
            panels[r, 0].set_title(moment.title, fontsize=8)
            panels[r, 1].set_title("similarity", fontsize=8)
    panels[-1, 2].set_xlabel("cosine with the matched position", fontsize=8)
    caption = (
        "Two views of one image; boxes: positions that count as lying in the other view. Lines: "
        f"the {LOWEST} least similar matches of positions in the left view's box. Middle: how "
        "similar each position of the left view is to its match, dark where least. Right: the same "
        "of the positions in the box and of those outside. Similarity alone would lower the weight "
        "of the former, too, although both views show the same part of the image."
    )
    return save(figure, folder, name, "Matches in the overlap", caption, pictures=True)


def lowest_inside(mask: Tensor, score: Tensor) -> list[int]:
    """The positions of the mask with the least similar matches, the least similar first."""
    order = score.argsort(stable=True).tolist()
    return [position for position in order if mask[position]][:LOWEST]


def _draw_lowest(
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
    for position in lowest_inside(masks[0], score):
        xs, ys = zip(centre(position, 0), centre(int(index[position]), 1), strict=True)
        panel.plot(xs, ys, "-o", color=COLOURS[1], lw=0.8, ms=2.5)


def _similarity(panel: Axes, view: np.ndarray, score: Tensor) -> None:
    """The query view in grey, and over it the similarity of each position with its match."""
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

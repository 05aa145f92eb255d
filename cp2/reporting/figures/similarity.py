"""What of an image is similar to a chosen pixel (the self-attention maps of PixCon's Figure 1)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from cp2.augment.geometry import resize_image
from cp2.reporting.figures.drawing import ReportFigure, save
from cp2.reporting.figures.encoded import Moment, features, to_show

SHORT_SIDE = 28  # positions of an image's short side
Pixel = tuple[float, float]  # row and column as shares of the image


def similarity(
    images: Sequence[Tensor], pixel: Pixel, columns: Sequence[Moment], folder: Path, name: str
) -> ReportFigure:
    """Each image, then for each backbone the cosine of every position with the chosen pixel's.

    Args:
        images: uint8 (3, H, W) each; a row of the figure.
        columns: backbones that are compared.
    """
    aspects = [image.shape[2] / image.shape[1] for image in images]
    width = 1.6 * max(aspects)
    figure = Figure(
        figsize=(width * (1 + len(columns)), 1.75 * len(images) + 0.3), layout="constrained"
    )
    panels = figure.subplots(len(images), 1 + len(columns), squeeze=False)
    for r, image in enumerate(images):
        for c, moment in enumerate([None, *columns]):
            panel = panels[r, c]
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
            shown = to_show(image)
            if moment is None:
                panel.imshow(shown)
            else:
                heat = similarity_map(moment, image, pixel)
                panel.imshow(shown.mean(2), cmap="gray", vmin=0, vmax=255)
                extent = (-0.5, shown.shape[1] - 0.5, shown.shape[0] - 0.5, -0.5)
                panel.imshow(
                    heat, cmap="inferno", alpha=0.65, extent=extent, interpolation="bilinear"
                )
                if r == 0:
                    panel.set_title(moment.title, fontsize=8)
            y, x = (share * size for share, size in zip(pixel, shown.shape[:2], strict=True))
            panel.plot(x, y, "o", ms=6, mfc="#00E0FF", mec="k", mew=0.8)
    caption = (
        "Similarity of all positions with that of the marked pixel: the cosine of the backbone's "
        "features, from each map's lowest (dark) to its highest value (bright). Images have "
        f"{SHORT_SIDE} positions on their short side."
    )
    return save(figure, folder, name, "Similarity with a pixel", caption, pictures=True)


def similarity_map(moment: Moment, image: Tensor, pixel: Pixel) -> np.ndarray:
    """Cosines with the pixel's position, float (h, w)."""
    stride = moment.backbone.stride
    scale = SHORT_SIDE * stride / min(image.shape[1:])
    height, width = (max(1, round(size * scale / stride)) for size in image.shape[1:])
    resized = resize_image(image, (height * stride, width * stride))
    vectors = features(moment.backbone, resized[None])[0]
    row, column = (
        min(int(share * size), size - 1)
        for share, size in zip(pixel, vectors.shape[1:], strict=True)
    )
    return torch.einsum("chw,c->hw", vectors, vectors[:, row, column]).numpy()

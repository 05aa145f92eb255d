"""Geometry of labelled images: resize to fit, random crop, flip. Image and label move together.

The distributions are those of mmsegmentation's training transforms, which CP²'s release finetunes
with.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cp2.data.labels import IGNORE
from cp2.settings.protocols.segmentation import FinetuneAugmentation

CROP_TRIES = 10  # mmsegmentation: so many crops are checked; the one after them is taken as it is


def fitted_size(
    height: int, width: int, fit: tuple[int, int], ratio: float = 1.0
) -> tuple[int, int]:
    """Height and width of an image that keeps its aspect and fits into `fit`, each at least 1.

    Args:
        fit: the largest short and long side allowed.
        ratio: both limits are multiplied with it first, and cut to whole pixels.
    """
    short, long = (int(side * ratio) for side in fit)
    scale = min(long / max(height, width), short / min(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 (3, H, W) to uint8 (3, *size), channels last in memory if the image is.

    Bilinear without antialiasing, as OpenCV resizes.
    """
    # Not image[None]: its stride would hide the layout, and the colours would be sorted twice.
    batch = image.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return F.interpolate(batch, size=size, mode="bilinear", align_corners=False)[0]


class ResizedLabel:
    """A label (H, W) at another size, of which only what is cut out is computed.

    Each pixel is the nearest of the label, as OpenCV resizes (and as `F.interpolate` does).

    Attributes:
        size: height and width of the whole.
    """

    def __init__(self, label: Tensor, size: tuple[int, int]) -> None:
        self.size = size
        self._label = label.numpy()
        self._rows, self._columns = map(_nearest, label.shape, size)

    def cut(self, corner: tuple[int, int], crop: tuple[int, int]) -> Tensor:
        """The crop at `corner`; smaller than `crop` where the picture ends."""
        rows = self._rows[corner[0] : corner[0] + crop[0]]
        columns = self._columns[corner[1] : corner[1] + crop[1]]
        return torch.from_numpy(self._label[rows].take(columns, axis=1))


def _nearest(old: int, new: int) -> np.ndarray:
    """For each of `new` pixels the one of `old` that it takes, in float32 as OpenCV and torch."""
    scale = np.float32(old) / np.float32(new)
    index = np.floor(np.arange(new, dtype=np.float32) * scale).astype(np.int64)
    return index.clip(max=old - 1)


def draw_window(
    rng: np.random.Generator, label: ResizedLabel, crop: tuple[int, int], cat_max_ratio: float
) -> tuple[int, int]:
    """Top left corner of a crop of the label, uniform among those that fit.

    A crop is drawn again when one class fills `cat_max_ratio` or more of its labelled pixels.
    """
    corner = _draw_corner(rng, label.size, crop)
    if cat_max_ratio >= 1:
        return corner
    for _ in range(CROP_TRIES):
        if _largest_share(label.cut(corner, crop)) < cat_max_ratio:
            break
        corner = _draw_corner(rng, label.size, crop)
    return corner


def _draw_corner(
    rng: np.random.Generator, size: tuple[int, int], crop: tuple[int, int]
) -> tuple[int, int]:
    height, width = size
    top = int(rng.integers(0, max(height - crop[0], 0), endpoint=True))
    left = int(rng.integers(0, max(width - crop[1], 0), endpoint=True))
    return top, left


def _largest_share(label: Tensor) -> float:
    """Share of the most frequent class in the labelled pixels; 1 where there are none."""
    counts = np.bincount(label.numpy().ravel(), minlength=256)
    counts[IGNORE] = 0
    return float(counts.max() / max(counts.sum(), 1)) if counts.any() else 1.0


def cut(pixels: Tensor, corner: tuple[int, int], crop: tuple[int, int]) -> Tensor:
    """The crop at `corner` of (..., H, W); smaller than `crop` where the picture ends."""
    top, left = corner
    return pixels[..., top : top + crop[0], left : left + crop[1]]


def draw_view(
    rng: np.random.Generator, image: Tensor, label: Tensor, settings: FinetuneAugmentation
) -> tuple[Tensor, Tensor]:
    """A random resize, crop and flip of an image (3, H, W) and its label (H, W), both uint8.

    Returns:
        Image (3, h, w) and label (h, w), at most `settings.crop` and not yet padded to it.
    """
    ratio = rng.uniform(*settings.scale)
    size = fitted_size(image.shape[1], image.shape[2], settings.resize, ratio)
    resized = ResizedLabel(label, size)
    corner = draw_window(rng, resized, settings.crop, settings.cat_max_ratio)
    image = cut(resize_image(image, size), corner, settings.crop)
    label = resized.cut(corner, settings.crop)
    if rng.random() < settings.flip_probability:
        image, label = image.flip(-1), label.flip(-1)
    return image, label


def pad(pixels: Tensor, crop: tuple[int, int], value: int) -> Tensor:
    """(..., h, w) filled up at the right and below to (..., *crop)."""
    height, width = pixels.shape[-2:]
    if (height, width) == tuple(crop):
        return pixels
    padded = torch.full((*pixels.shape[:-2], *crop), value, dtype=pixels.dtype)
    padded[..., :height, :width] = pixels
    return padded

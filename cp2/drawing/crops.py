"""Crop boxes of views, drawn in the images' own pixels."""

import math
from functools import cache

import numpy as np

from cp2.drawing import counters
from cp2.settings.views import ViewSettings

Box = tuple[int, int, int, int]  # top, left, height, width
Pair = tuple[float, float]

CROP_TRIES = 10  # torchvision's RandomResizedCrop
EXTENTS = ((300, 400), (400, 400), (400, 300))  # height and width of images of a trial
TOLERATED = 0.5  # share of pairs of views that may become the central crop
_PAIRS = 300  # of each extent


def draw_crop(rng: np.random.Generator, height: int, width: int, scale: Pair, ratio: Pair) -> Box:
    """A crop with the distribution of torchvision's RandomResizedCrop.

    `scale`: share of the image's area, uniform. `ratio`: width / height, log-uniform. After ten
    crops that do not fit, the largest central crop of an allowed ratio.
    """
    for _ in range(CROP_TRIES):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(rng.integers(0, height - h, endpoint=True))
            left = int(rng.integers(0, width - w, endpoint=True))
            return top, left, h, w
    return central_crop(height, width, ratio)


def central_crop(height: int, width: int, ratio: Pair) -> Box:
    """The largest crop of an allowed ratio, in the middle."""
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w = min(width, max(1, round(height * aspect)))
    h = min(height, max(1, round(width / aspect)))
    return (height - h) // 2, (width - w) // 2, h, w


def draw_second_crop(
    rng: np.random.Generator, height: int, width: int, settings: ViewSettings, first: Box
) -> tuple[Box, Box]:
    """A crop of the same image that overlaps the first by `min_overlap` of its own area.

    Returns:
        Both boxes: after ten crops that do not overlap so much, both are the central crop, or the
        second is another that need not (`without_overlap`).
    """
    for _ in range(CROP_TRIES):
        box = draw_crop(rng, height, width, settings.crop_scale, settings.crop_ratio)
        if overlap(first, box) >= settings.min_overlap:
            return first, box
    if settings.without_overlap == "any":
        return first, draw_crop(rng, height, width, settings.crop_scale, settings.crop_ratio)
    middle = central_crop(height, width, settings.crop_ratio)
    return middle, middle


def overlap(box: Box, other: Box) -> float:
    """Share of `other` that lies in `box`."""
    height = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    width = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(height, 0) * max(width, 0) / (other[2] * other[3])


def crop_misfit(views: ViewSettings) -> str | None:
    """Why most pairs of views would not overlap as they should; None where few would not."""
    if not views.min_overlap:
        return None
    share = min(_failing_share(views, *extent) for extent in EXTENTS)
    failing = "be the same central crop" if views.without_overlap == "central" else "hardly meet"
    if share <= TOLERATED:
        return None
    return (
        f"views.min_overlap {views.min_overlap:g} with crop_scale {list(views.crop_scale)} and "
        f"crop_ratio {list(views.crop_ratio)}: of {share:.0%} of the pairs no second crop of "
        f"{CROP_TRIES} overlaps the first so much, and both views would {failing}; "
        "choose a smaller min_overlap, or larger crops (crop_scale)"
    )


@cache
def _failing_share(views: ViewSettings, height: int, width: int) -> float:
    """Share of pairs of views of such an image without the overlap asked for, in a trial."""
    rng = counters.generator(0, counters.VIEWS)
    failing = 0
    for _ in range(_PAIRS):
        first = draw_crop(rng, height, width, views.crop_scale, views.crop_ratio)
        first, second = draw_second_crop(rng, height, width, views, first)
        failing += first is second or overlap(first, second) < views.min_overlap
    return failing / _PAIRS

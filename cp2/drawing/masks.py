"""Foreground masks of CP²: rectangles, blocks and patches; polygons and attention by their files.

Rectangles are the hole of torchvision's RandomErasing, as the released code uses it. Blocks and
patches are constructions of our own (docs/fidelity.md).
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from cp2.drawing import counters
from cp2.drawing.crops import Box
from cp2.drawing.polygons import polygons, share_that_fits
from cp2.errors import UserError
from cp2.settings.masks import (
    BlocksMaskSettings,
    MaskSettings,
    PatchesMaskSettings,
    PolygonMaskSettings,
    RectangleMaskSettings,
)

TRIES = 1000  # rectangles that are drawn for one; one try in 10**4 fails with published ranges
HALVINGS = 12  # of the range in which the scale of blocks is searched
RECTANGLES = 0.1  # share of rectangles that has to fit into the image, by a trial of so many:
_TRIAL = 500
POLYGONS = 0.01  # the same; 1,600 are drawn for one


def draw_masks(rng: np.random.Generator, n: int, size: int, settings: MaskSettings) -> np.ndarray:
    """n masks, bool (n, size, size), True where the foreground is.

    Raises:
        UserError: no mask of this kind and area fits into the image.
        ValueError: masks of this kind are not drawn.
    """
    match settings:
        case RectangleMaskSettings():
            rectangles = draw_rectangles(rng, n, size, settings)
            rectangles[:, 2:] += rectangles[:, :2]
            return _filled(list(rectangles[:, None]), size)
        case PolygonMaskSettings():
            return polygons(rng, n, size, settings)
        case BlocksMaskSettings():
            return _filled([draw_blocks(rng, size, settings) for _ in range(n)], size)
        case PatchesMaskSettings():
            return draw_patches(rng, n, size, settings)
    raise ValueError(f"masks of kind {settings.kind} are not drawn")


@cache
def mask_misfit(settings: MaskSettings, size: int) -> str | None:
    """Why masks of a size x size image cannot be drawn; None where they can."""
    rng = counters.generator(0, counters.MASKS)
    match settings:
        case RectangleMaskSettings():
            found = [_rectangle(rng, size, settings) is not None for _ in range(_TRIAL)]
            share = sum(found) / _TRIAL
            if share < RECTANGLES:
                return (
                    f"mask.area {list(settings.area)} and mask.aspect {list(settings.aspect)}: "
                    f"{share:.0%} of such rectangles fit into {size} x {size} pixels, at least "
                    f"{RECTANGLES:.0%} have to; choose a smaller area or aspects nearer to 1"
                )
        case PolygonMaskSettings():
            area, vertices = settings.area[1], settings.vertices[0]
            share = share_that_fits(rng, vertices, area)
            if share < POLYGONS:
                return (
                    f"mask.area {list(settings.area)} and mask.vertices "
                    f"{list(settings.vertices)}: of polygons with {vertices} vertices and area "
                    f"{area:g}, {share:.1%} fit into the image, at least {POLYGONS:.0%} have to; "
                    "choose a smaller area or more vertices"
                )
        case PatchesMaskSettings():
            return _patch_misfit(settings, size)
    return None


def _filled(unions: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Masks (n, size, size), each of some boxes (..., 4): (top, left, bottom, right) in pixels."""
    masks = np.zeros((len(unions), size, size), dtype=bool)
    for mask, boxes in zip(masks, unions, strict=True):
        for top, left, bottom, right in boxes:
            mask[top:bottom, left:right] = True
    return masks


def draw_rectangles(
    rng: np.random.Generator, n: int, size: int, settings: RectangleMaskSettings
) -> np.ndarray:
    """n rectangles (top, left, height, width) in a size x size image, (n, 4) int64.

    A uniform share of the area, height and width strictly below the image's, every position
    equally likely.

    Raises:
        UserError: no rectangle of these ranges fits into the image.
    """
    boxes = []
    for _ in range(n):
        tries = (_rectangle(rng, size, settings) for _ in range(TRIES))
        box = next((box for box in tries if box), None)
        if box is None:
            raise UserError(
                f"mask: no rectangle with area {list(settings.area)} (share of the image) and "
                f"aspect {list(settings.aspect)} (height / width) fits into {size} x {size} pixels "
                f"in {TRIES} draws; height and width must stay below the image's, so choose a "
                "smaller area"
            )
        boxes.append(box)
    return np.array(boxes, dtype=np.int64)


def _rectangle(rng: np.random.Generator, size: int, settings: RectangleMaskSettings) -> Box | None:
    """One try; None where it does not fit."""
    low, high = settings.aspect
    area = size * size * rng.uniform(*settings.area)
    if settings.aspect_sampling == "log":
        aspect = math.exp(rng.uniform(math.log(low), math.log(high)))
    else:
        aspect = rng.uniform(low, high)
    height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if not (0 < height < size and 0 < width < size):
        return None
    top = int(rng.integers(0, size - height, endpoint=True))
    left = int(rng.integers(0, size - width, endpoint=True))
    return top, left, height, width


def draw_blocks(rng: np.random.Generator, size: int, settings: BlocksMaskSettings) -> np.ndarray:
    """Blocks (count, 4) int64, rows (top, left, bottom, right) in pixels, within the image.

    Centres are uniform in the image, aspects log-uniform, relative areas uniform in [0.5, 1.5].
    All blocks are then enlarged together until their union covers a uniform share of the image.
    """
    area = rng.uniform(*settings.area) * size * size
    count = int(rng.integers(*settings.count, endpoint=True))
    centres = rng.random((count, 2)) * size
    low, high = settings.aspect
    aspects = np.exp(rng.uniform(math.log(low), math.log(high), count))
    relative = np.sqrt(rng.uniform(0.5, 1.5, count))
    halves = np.stack([relative * np.sqrt(aspects), relative / np.sqrt(aspects)], 1)
    # A scale at which one block alone covers the image, wherever its centre is.
    too_small, enough = 0.0, float(size / halves.min())
    for _ in range(HALVINGS):
        scale = (too_small + enough) / 2
        if _union(_boxes(centres, halves * scale, size)) < area:
            too_small = scale
        else:
            enough = scale
    return _boxes(centres, halves * enough, size)


def _boxes(centres: np.ndarray, halves: np.ndarray, size: int) -> np.ndarray:
    corners = np.concatenate([centres - halves, centres + halves], 1)
    return corners.round().clip(0, size).astype(np.int64)


def _union(boxes: np.ndarray) -> int:
    """Pixels in the union, counted on the grid that the boxes' own edges make."""
    rows, columns = np.unique(boxes[:, ::2]), np.unique(boxes[:, 1::2])
    inside_rows = (boxes[:, :1] <= rows[:-1]) & (rows[:-1] < boxes[:, 2:3])  # (count, pieces)
    inside_columns = (boxes[:, 1:2] <= columns[:-1]) & (columns[:-1] < boxes[:, 3:4])
    covered = (inside_rows[:, :, None] & inside_columns[:, None, :]).any(0)
    return int(np.diff(rows) @ covered @ np.diff(columns))


def draw_patches(
    rng: np.random.Generator, n: int, size: int, settings: PatchesMaskSettings
) -> np.ndarray:
    """n masks, bool (n, size, size), of randomly chosen squares of a regular grid.

    Their number is uniform among those whose share lies in `settings.area`, every choice of so
    many is equally likely. `size` is a multiple of the patch.

    Raises:
        UserError: no number of patches has such a share.
    """
    if reason := _patch_misfit(settings, size):
        raise UserError(reason)
    side, possible = size // settings.patch, _patch_counts(settings, size)
    counts = rng.integers(possible.start, possible.stop, n)
    ranks = rng.permuted(np.tile(np.arange(side * side), (n, 1)), axis=1)
    patches = (ranks < counts[:, None]).reshape(n, side, side)
    return patches.repeat(settings.patch, 1).repeat(settings.patch, 2)


def _patch_counts(settings: PatchesMaskSettings, size: int) -> range:
    """Numbers of patches whose share of the image lies in `settings.area`."""
    low, high = (share * (size // settings.patch) ** 2 for share in settings.area)
    # 0.7 * 10 is 7.000000000000001
    return range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)


def _patch_misfit(settings: PatchesMaskSettings, size: int) -> str | None:
    if _patch_counts(settings, size):
        return None
    side = size // settings.patch
    return (
        f"mask.area {list(settings.area)} and mask.patch {settings.patch}: of {side} x {side} "
        "patches no number makes such a share; choose a wider area or a smaller patch"
    )

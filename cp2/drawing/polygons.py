"""Polygons that are star-shaped about their middle; a construction of our own (fidelity.md)."""

import numpy as np

from cp2.errors import UserError
from cp2.settings.masks import PolygonMaskSettings

BATCH = 16  # shapes drawn at once
TRIES = 100  # batches
INWARD = 0.6  # a vertex lies between this share of the way from the middle to the edge and the edge


def polygons(
    rng: np.random.Generator, n: int, size: int, settings: PolygonMaskSettings
) -> np.ndarray:
    """n masks, bool (n, size, size), of one polygon each; pixels count by their centres.

    Raises:
        UserError: no polygon of this area fits into the image.
    """
    return np.stack([fill(draw_polygon(rng, settings) * size, size) for _ in range(n)])


def draw_polygon(rng: np.random.Generator, settings: PolygonMaskSettings) -> np.ndarray:
    """Vertices (v, 2), rows (y, x) in order around the polygon, in the unit square.

    One vertex in each of v equal pieces of the square's edge, pulled towards the middle by a
    uniform factor, so that a ray from the middle meets the outline once. Shape and place are
    uniform among those that fit; the area is uniform in `settings.area`, and exact: shapes are
    drawn until one of that area fits into the square.

    Raises:
        UserError: no polygon of this area fits.
    """
    area = rng.uniform(*settings.area)
    vertices = int(rng.integers(*settings.vertices, endpoint=True))
    for _ in range(TRIES):
        shapes = _star_shapes(rng, BATCH, vertices)
        scale, extent = _scaled(shapes, area)
        fitting = np.flatnonzero((extent <= 1).all(1))
        if len(fitting):
            first = fitting[0]
            shape = shapes[first] * scale[first]
            return shape - shape.min(0) + rng.random(2) * (1 - extent[first])
    raise UserError(
        f"mask: no polygon with area {list(settings.area)} (share of the image) and "
        f"{list(settings.vertices)} vertices fits into the image in {TRIES * BATCH} draws; choose "
        "a smaller area or more vertices"
    )


def share_that_fits(rng: np.random.Generator, vertices: int, area: float, n: int = 1000) -> float:
    """Share of n polygons of this area that fit into the unit square."""
    _, extent = _scaled(_star_shapes(rng, n, vertices), area)
    return float((extent <= 1).all(1).mean())


def _scaled(shapes: np.ndarray, area: float) -> tuple[np.ndarray, np.ndarray]:
    """Factors (n,) that give shapes (n, v, 2) this area, and their extents (n, 2) at it."""
    scale = np.sqrt(area / _areas(shapes))
    return scale, np.ptp(shapes, axis=1) * scale[:, None]


def _star_shapes(rng: np.random.Generator, n: int, vertices: int) -> np.ndarray:
    """Vertices (n, vertices, 2) about (0, 0), each on its way to the edge of [-1, 1] squared."""
    along = (np.arange(vertices) + rng.random((n, vertices)) + rng.random((n, 1))) / vertices
    side, part = np.divmod(4 * (along % 1), 1)
    part = 2 * part - 1
    ones = np.ones_like(part)
    corners = [(-ones, part), (part, ones), (ones, -part), (-part, -ones)]
    edge = np.select(
        [(side == k)[..., None] for k in range(4)], [np.stack(pair, -1) for pair in corners]
    )
    return edge * rng.uniform(INWARD, 1, (n, vertices, 1))


def _areas(shapes: np.ndarray) -> np.ndarray:
    """Area of each polygon (n, v, 2), by the shoelace formula: (n,)."""
    y, x = shapes[..., 0], shapes[..., 1]
    return np.abs((y * np.roll(x, -1, 1) - x * np.roll(y, -1, 1)).sum(1)) / 2


def fill(vertices: np.ndarray, size: int) -> np.ndarray:
    """The pixels, bool (size, size), whose centres are inside the polygon (v, 2), in pixels.

    Even-odd rule: a row's pixels right of an odd number of crossings with the outline are inside.
    """
    centres = np.arange(size) + 0.5
    y0, x0 = vertices.T[:, :, None]  # (v, 1)
    y1, x1 = np.roll(vertices, -1, 0).T[:, :, None]
    crossed = (y0 <= centres) != (y1 <= centres)  # (v, rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        where = x0 + (centres - y0) / (y1 - y0) * (x1 - x0)
    # The first pixel whose centre is to the right of the crossing; `size` stands for none.
    first = np.where(crossed, np.ceil(where - 0.5).clip(0, size), size).astype(np.int64)
    rows = np.arange(size) * (size + 1)
    crossings = np.bincount((rows + first).ravel(), minlength=size * (size + 1))
    inside = crossings.reshape(size, size + 1)[:, :size].cumsum(1) % 2
    return inside.astype(bool)

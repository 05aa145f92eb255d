"""What lies behind the objects: sky, ground, hills, house fronts."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cp2.data.world.canvas import Canvas
from cp2.data.world.objects import pick
from cp2.data.world.textures import Colour

Scene = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]  # image (H, W, 3), labels (H, W)

SKIES: Sequence[Colour] = [(140, 185, 230), (190, 205, 220), (225, 195, 170), (110, 150, 205)]
GREENS: Sequence[Colour] = [(95, 135, 60), (120, 140, 70), (75, 115, 55)]
WATERS: Sequence[Colour] = [(50, 105, 140), (70, 125, 130), (45, 75, 120)]
STONES: Sequence[Colour] = [(185, 150, 125), (150, 90, 75), (200, 195, 185), (130, 135, 145)]


def fill_band(
    canvas: Canvas, top: float, bottom: float, colour: Colour, kind: str, label: int
) -> None:
    """The full width, between two shares of the height."""
    canvas.fill([(0, top), (1, top), (1, bottom), (0, bottom)], colour, kind, label)


def ridge(canvas: Canvas, horizon: float, colour: Colour, label: int) -> None:
    """Hills that end at the horizon."""
    across = np.linspace(0, 1, 9)
    tops = horizon - 0.02 - np.abs(canvas.rng.normal(0.08, 0.07, 9))
    outline = [(0.0, horizon + 0.02), *zip(across, tops, strict=True), (1.0, horizon + 0.02)]
    canvas.fill([(float(x), float(y)) for x, y in outline], colour, "rock", label)


def skyline(canvas: Canvas, horizon: float, label: int) -> None:
    """House fronts that end at the horizon."""
    rng = canvas.rng
    left = 0.0
    while left < 1:
        right = left + rng.uniform(0.12, 0.3)
        top = horizon - rng.uniform(0.08, 0.32)
        wall = [(left, top), (right, top), (right, horizon), (left, horizon)]
        canvas.fill(wall, pick(rng, STONES), "panes", label)
        left = right

"""Surfaces: colour fields with the grain of grass, wool, water, brick, ..."""

import numpy as np
import numpy.typing as npt
from PIL import Image

Colour = tuple[float, float, float]  # RGB, 0..255
Pixels = npt.NDArray[np.float32]  # (H, W, 3), 0..255
Field = npt.NDArray[np.float32]  # (H, W)

# kind: (cells across 100 pixels, contrast) of its noise, coarse to fine
_GRAIN: dict[str, tuple[tuple[float, float], ...]] = {
    "plain": ((3, 0.10),),
    "sky": ((2, 0.16), (5, 0.10)),
    "grass": ((3, 0.25), (14, 0.25), (45, 0.45)),
    "sand": ((3, 0.15), (45, 0.20)),
    "asphalt": ((3, 0.15), (45, 0.18)),
    "rock": ((4, 0.45), (15, 0.40), (40, 0.25)),
    "leaves": ((9, 0.55), (25, 0.60)),
    "wool": ((14, 0.30), (28, 0.25)),
    "fur": ((10, 0.15), (40, 0.25)),
    "cloth": ((5, 0.30), (40, 0.10)),
    "wood": ((4, 0.20),),
    "water": ((3, 0.15),),
    "stripes": ((5, 0.15), (40, 0.15)),
    "brick": ((5, 0.15), (40, 0.15)),
    "panes": ((3, 0.10),),
}
KINDS = frozenset(_GRAIN)


def noise(rng: np.random.Generator, height: int, width: int, cells: float) -> Field:
    """Smooth noise with mean 0 and about unit spread; `cells` grains across 100 pixels."""
    rows = max(2, round(height * cells / 100) + 1)
    columns = max(2, round(width * cells / 100) + 1)
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    picture = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def texture(rng: np.random.Generator, kind: str, colour: Colour, height: int, width: int) -> Pixels:
    """A patch of a surface."""
    brightness = np.ones((height, width), np.float32)
    for cells, contrast in _GRAIN[kind]:
        brightness += contrast * 0.5 * noise(rng, height, width, cells)
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None]
    brightness *= _pattern(rng, kind, rows, columns)
    if kind == "sky":  # paler towards the horizon
        brightness *= 0.88 + 0.3 * rows / max(height, 1)
    hue = np.array(colour, np.float32) * rng.normal(1, 0.03, 3).astype(np.float32)
    return np.clip(brightness, 0.1, 1.9)[..., None] * hue


def _pattern(rng: np.random.Generator, kind: str, rows: Field, columns: Field) -> Field:
    """Regular structure, as a factor on the brightness."""
    if kind == "stripes":
        wave = rows * rng.uniform(-0.2, 0.2) + columns + 2 * np.sin(rows / 5)
        return 1 + 0.35 * np.sign(np.sin(wave * rng.uniform(0.6, 0.9)))
    if kind == "water":
        wave = np.sin(rows * rng.uniform(0.7, 1.1) + 1.5 * np.sin(columns / rng.uniform(6, 14)))
        return 1 + 0.16 * wave
    if kind == "wood":
        return 1 + 0.14 * np.sin(columns * rng.uniform(0.5, 0.9) + np.sin(rows / 9))
    if kind == "brick":
        course = np.floor(rows / 7)
        joints = ((rows % 7) < 1) | (((columns + 7 * (course % 2)) % 14) < 1)
        return np.where(joints, np.float32(0.72), np.float32(1))
    if kind == "panes":
        glass = ((rows % 14) > 4) & ((columns % 12) > 4)
        return np.where(glass, np.float32(0.5), np.float32(1))
    return np.ones((1, 1), np.float32)

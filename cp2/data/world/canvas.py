"""A canvas that knows, for each pixel, its colour and what it shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cp2.data.world.textures import Colour, Pixels, texture

SCALE = 2  # drawn larger and averaged, which smooths the outlines
Points = npt.NDArray[np.float64]  # (N, 2): x to the right, y down


@dataclass(frozen=True)
class Part:
    """A filled outline, in units of its object's height; (0, 0) is where the object stands."""

    outline: Points
    colour: Colour
    texture: str = "plain"


@dataclass(frozen=True)
class Pose:
    """Where an object goes: its foot (shares of width and height), its height (share of height)."""

    x: float
    y: float
    height: float
    mirrored: bool = False
    tilt: float = 0.0  # radians


class Canvas:
    """Draws at SCALE times the final size; coordinates are shares of the picture, 0..1."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng = rng
        self.height, self.width = height * SCALE, width * SCALE
        self.pixels: Pixels = np.zeros((self.height, self.width, 3), np.float32)
        self.labels = np.zeros((self.height, self.width), np.uint8)
        self.light = rng.uniform(-0.35, 0.35)  # from the left or from the right

    def fill(
        self, outline: Sequence[tuple[float, float]], colour: Colour, kind: str, label: int
    ) -> None:
        """Paint a region of the scenery: a polygon in shares of the picture."""
        points = np.array(outline, float) * (self.width, self.height)
        self._paint(Part(points, colour, kind), label, shade=None)

    def stamp(self, parts: Sequence[Part], pose: Pose, label: int) -> None:
        """Paint an object, back to front."""
        size = pose.height * self.height
        cos, sin = np.cos(pose.tilt), np.sin(pose.tilt)
        turn = np.array([[cos, sin], [-sin, cos]])
        foot = np.array([pose.x * self.width, pose.y * self.height])
        for part in parts:
            points = part.outline * (-1, 1) if pose.mirrored else part.outline
            placed = replace(part, outline=points @ turn * size + foot)
            self._paint(placed, label, shade=(foot, size))

    def shadow(self, pose: Pose, half_width: float) -> None:
        """Darken the ground below an object; `half_width` in units of its height."""
        size = pose.height * self.height
        rows = (np.arange(self.height)[:, None] - pose.y * self.height) / (0.09 * size)
        columns = (np.arange(self.width)[None] - pose.x * self.width) / (half_width * size)
        dark = 0.45 * np.exp(-(rows**2) - columns**2)
        self.pixels *= (1 - dark)[..., None].astype(np.float32)

    def _paint(self, part: Part, label: int, shade: tuple[Points, float] | None) -> None:
        low = np.floor(part.outline.min(0)).astype(int)
        high = np.ceil(part.outline.max(0)).astype(int) + 1
        left, top = np.maximum(low, 0)
        right, bottom = np.minimum(high, (self.width, self.height))
        if left >= right or top >= bottom:
            return
        drawing = Image.new("1", (int(right - left), int(bottom - top)))
        ImageDraw.Draw(drawing).polygon([(x - left, y - top) for x, y in part.outline], fill=1)
        mask = np.array(drawing)
        colours = texture(self.rng, part.texture, part.colour, *mask.shape)
        if shade is not None:
            foot, size = shade
            side = (np.arange(left, right)[None] - foot[0]) / size
            rise = (foot[1] - np.arange(top, bottom)[:, None]) / size
            light = 1 + self.light * side + 0.28 * (rise - 0.5)
            colours = colours * np.clip(light, 0.45, 1.5)[..., None].astype(np.float32)
        region = np.s_[top:bottom, left:right]
        self.pixels[region][mask] = colours[mask]
        self.labels[region][mask] = label

    def develop(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """The photograph (H, W, 3) and its labels (H, W): light, tint, exposure, grain."""
        height, width = self.height // SCALE, self.width // SCALE
        boxes = self.pixels.reshape(height, SCALE, width, SCALE, 3)
        image = boxes.mean((1, 3))
        rng = self.rng
        across = np.linspace(-1, 1, width)[None, :, None] * rng.uniform(-0.15, 0.15)
        down = np.linspace(-1, 1, height)[:, None, None] * rng.uniform(-0.12, 0.05)
        tint = rng.normal(1, 0.05, 3)
        image = image * (1 + across + down) * tint * rng.uniform(0.8, 1.15)
        image = image + rng.normal(0, rng.uniform(2, 7), image.shape)
        labels = self.labels[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
        return np.clip(image, 0, 255).round().astype(np.uint8), labels.copy()

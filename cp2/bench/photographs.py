"""Synthetic photographs for measurements where no data set is at hand."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 500, 375  # the usual size of an ImageNet photograph
QUALITY = 92


def write_photographs(folder: Path, n: int, seed: int = 0) -> list[Path]:
    """n JPEG files of 500 x 375 pixels, which decode about as slowly as real photographs.

    Noise whose contrast falls with its frequency, as in natural images, under a few filled shapes;
    about 70 kB each.
    """
    rng = np.random.default_rng(seed)
    paths = []
    for number in range(n):
        path = folder / f"photograph-{number:04d}.jpg"
        _photograph(rng).save(path, quality=QUALITY)
        paths.append(path)
    return paths


def _photograph(rng: np.random.Generator) -> Image.Image:
    image = _noise(rng)
    shapes = image.copy()
    draw = ImageDraw.Draw(shapes)
    for _ in range(int(rng.integers(3, 9))):
        x, y = rng.integers(0, WIDTH), rng.integers(0, HEIGHT)
        w, h = rng.integers(30, 200, size=2)
        color = tuple(int(c) for c in rng.integers(0, 256, size=3))
        draw.ellipse((int(x - w), int(y - h), int(x + w), int(y + h)), fill=color)
    return Image.blend(image, shapes, 0.5)  # half transparent: the shapes keep a texture


def _noise(rng: np.random.Generator) -> Image.Image:
    total = np.full((HEIGHT, WIDTH, 3), 128.0)
    for octave in range(8):
        cell = 2**octave
        size = (WIDTH // cell + 2, HEIGHT // cell + 2)
        coarse = rng.integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
        layer = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        total += (np.asarray(layer, dtype=np.float64) - 128) * 0.08 * (octave + 1)
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))

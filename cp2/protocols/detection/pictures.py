"""Pictures of detections: an image, beside it with its objects, and with what was found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cp2.data.annotations import Box, ImageObject
from cp2.protocols.detection.masks import decoded
from cp2.protocols.detection.roi_heads import Detections
from cp2.record.files import whole_file

SHOWN_SCORE = 0.5
GAP = 4  # white pixels between the three
LEAST_SIDE = 320  # of the enlarged picture, so that names can be read
TEXT = 13  # pixels of a name
TINT = 0.45  # of a mask
# Of objects in turn; neighbours must differ, classes are told by their names.
COLOURS = ("#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#42d4f4", "#f032e6", "#bfef45")

Shown = tuple[Box, str, npt.NDArray[np.bool_] | None]


def write_picture(
    path: Path,
    image: Tensor,
    objects: list[ImageObject],
    found: Detections,
    masks: npt.NDArray[np.bool_] | None,
    names: tuple[str, ...],
) -> None:
    """A PNG of an image (3, h, w), uint8: alone, with its objects, and with what was found, best
    on top.

    Args:
        masks: (n, h, w) of what was found, if the detector makes any.
    Raises:
        UserError: the disk is full.
    """
    size = (image.shape[1], image.shape[2])
    truth: list[Shown] = [
        (one.box, _called(one), decoded(one.mask, size).astype(bool) if one.mask else None)
        for one in objects
    ]
    rows = (found.scores > SHOWN_SCORE).nonzero()[:, 0].flip(0).tolist()
    guesses: list[Shown] = [
        (
            tuple(found.boxes[row].tolist()),
            f"{names[found.classes[row]]} {found.scores[row]:.2f}",
            None if masks is None else masks[row],
        )
        for row in rows
    ]
    pixels, nothing = image.permute(1, 2, 0).numpy(), f"nothing above {SHOWN_SCORE:g}"
    panels = [panel(pixels), panel(pixels, truth, "no object"), panel(pixels, guesses, nothing)]
    width, height = panels[0].size
    sheet = Image.new("RGB", (3 * width + 2 * GAP, height), "white")
    for number, one in enumerate(panels):
        sheet.paste(one, (number * (width + GAP), 0))
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG")


def _called(one: ImageObject) -> str:
    """Its name, and what keeps it from being scored."""
    kind = " (crowd)" if one.crowd else " (difficult)" if one.difficult else ""
    return one.name + kind


def panel(
    pixels: npt.NDArray[np.uint8], shown: Sequence[Shown] = (), otherwise: str = ""
) -> Image.Image:
    """An image (h, w, 3) with masks, boxes and names; small ones are enlarged.

    Args:
        otherwise: written where there is nothing to show.
    """
    tinted = pixels.astype(np.float32)
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(shown))]
    for colour, (_, _, mask) in zip(colours, shown, strict=True):
        if mask is not None:
            value = np.array(Image.new("RGB", (1, 1), colour))[0, 0]
            tinted[mask] = (1 - TINT) * tinted[mask] + TINT * value
    picture = Image.fromarray(tinted.round().astype(np.uint8))
    scale = -(-LEAST_SIDE // min(picture.size))
    picture = picture.resize((scale * picture.width, scale * picture.height))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT)
    for colour, (box, text, _) in zip(colours, shown, strict=True):
        x0, y0, x1, y1 = (scale * side for side in box)
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=2)
        place = (x0 + 3, max(y0 - TEXT - 2, 0))
        _write(draw, place, text, colour, font)
    if otherwise and not shown:
        _write(draw, (3, 3), otherwise, "white", font)
    return picture


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: str, font: Any
) -> None:
    """White on black, with an edge of a colour."""
    left, top, right, bottom = draw.textbbox(place, text, font)
    draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill="black", outline=colour)
    draw.text(place, text, "white", font)

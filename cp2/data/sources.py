"""Where pretraining takes its pixels from: image files, or anything else with the same methods."""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from cp2.data.images import decode_bytes, decode_rgb, is_plain_jpeg
from cp2.data.members import read_bytes
from cp2.data.pillow import open_image, reading

SCALES = (8, 4, 2)  # libjpeg decodes at these parts of the size, and faster
MARGIN = 2  # crops keep so many pixels for one of the view: rounding a box moves it by 1/4 at most


class OpenImage:
    """One image: its full size is known, its pixels come when they are asked for.

    Args:
        decode: scale (1, 2, 4, 8) -> uint8 (3, ceil(height / scale), ceil(width / scale)), or
            larger where the image cannot be decoded smaller.
        encoded: the file's content, where it is known and a device's decoder can read it.
    """

    def __init__(
        self,
        height: int,
        width: int,
        decode: Callable[[int], torch.Tensor],
        encoded: bytes | None = None,
    ) -> None:
        self.height, self.width = height, width
        self.encoded = encoded
        self._decode = decode
        self._pixels: dict[int, torch.Tensor] = {}

    def pixels(self, scale: int = 1) -> torch.Tensor:
        """Decoded at the first call for a scale.

        Raises:
            WrongFile: the image cannot be read.
        """
        if scale not in self._pixels:
            self._pixels[scale] = self._decode(scale)
        return self._pixels[scale]


class ImageSource(Protocol):
    """Images by number."""

    scaled: bool  # whether crops may be cut out of an image that was decoded smaller

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What messages call an image."""
        ...

    def open(self, index: int) -> OpenImage:
        """An image.

        Raises:
            WrongFile: it cannot be read.
        """
        ...


class ImageFiles:
    """Images in files of their own.

    Args:
        scaled: the decoder may be asked for less than the full size.
        header_first: decode nothing before pixels are asked for; always so with `scaled`.
    """

    def __init__(
        self, paths: Sequence[Path], scaled: bool = False, header_first: bool = False
    ) -> None:
        # One array and no list of objects: forked workers then share its memory for good.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self.scaled = scaled
        self._header_first = header_first or scaled

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        return os.fsdecode(self._paths[index])

    def open(self, index: int) -> OpenImage:
        path = Path(self.name(index))
        if self._header_first:
            return _open_header(path)
        image = decode_rgb(path)
        return OpenImage(image.shape[1], image.shape[2], lambda scale: image)


def _open_header(path: Path) -> OpenImage:
    with reading(path):
        data = read_bytes(path)
        with open_image(io.BytesIO(data)) as image:
            width, height = image.size
            jpeg, mode = image.format == "JPEG", image.mode

    def decode(scale: int) -> torch.Tensor:
        with reading(path):
            if scale == 1 or not jpeg:
                return decode_bytes(data)
            with open_image(io.BytesIO(data)) as image:
                image.draft(None, (-(-width // scale), -(-height // scale)))
                return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)

    return OpenImage(height, width, decode, data if is_plain_jpeg(data, mode) else None)


def scale_for(boxes: Sequence[tuple[int, int, int, int]], size: int) -> int:
    """The largest scale at which boxes (top, left, height, width) keep MARGIN `size` pixels a side.

    1 where there is no such scale.
    """
    side = min((min(box[2:]) for box in boxes), default=0)
    return next((scale for scale in SCALES if side >= MARGIN * scale * size), 1)


def scale_box(
    box: tuple[int, int, int, int], image: OpenImage, pixels: torch.Tensor
) -> tuple[int, int, int, int]:
    """The box in an image that was decoded smaller, to the nearest pixel and inside of it."""
    found = pixels.shape[1:]
    if found == (image.height, image.width):
        return box
    factors = (found[0] / image.height, found[1] / image.width)
    sides = [min(found[axis], max(1, round(box[2 + axis] * factors[axis]))) for axis in range(2)]
    corner = [min(found[axis] - sides[axis], round(box[axis] * factors[axis])) for axis in range(2)]
    return corner[0], corner[1], sides[0], sides[1]

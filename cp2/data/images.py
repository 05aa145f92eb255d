"""Decoding of photographs."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torchvision.io import ImageReadMode, decode_jpeg

from cp2.data.members import read_bytes
from cp2.data.pillow import decode_array, open_image, orientation, reading

JPEG_START, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
TAIL = 1024  # bytes at the end in which a complete JPEG has its end marker
MOST_PIXELS = 2 * 89_478_485  # of an image: where Pillow begins to call it a bomb
# Markers that a length follows, to libjpeg: tables, APPn, comments. Of others, Pillow judges.
_SEGMENTS = frozenset((0xC4, 0xCC, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)))
# Axes of (3, H, W) that are flipped behind a transposition, to turn what EXIF says is lying.
_UPRIGHT = {5: (), 6: (2,), 7: (1, 2), 8: (1,)}


def decode_rgb(path: Path | str, like: Sequence[int] | None = None) -> torch.Tensor:
    """An image file as uint8 (3, H, W), channels last in memory.

    The same pixels as PIL's `convert("RGB")`: an EXIF rotation is not applied, transparency is
    dropped. 16-bit grey files are scaled to 8 bits (PIL would clip them to white).

    Args:
        like: height and width of the image's label. Where they are the image's only when it is
            turned as its EXIF orientation says, it is turned.
    Raises:
        WrongFile: the file is missing, truncated, corrupt, no image, too large or of pixels that
            have no one meaning in 8 bits.
    """
    path = Path(path)
    with reading(path):
        data = read_bytes(path)
        image = decode_bytes(data)
        if like is not None and image.shape[1:] != like and image.shape[:0:-1] == tuple(like):
            with open_image(io.BytesIO(data)) as file:
                flipped = _UPRIGHT.get(orientation(file))
            if flipped is not None:
                return image.transpose(1, 2).flip(flipped)
        return image


def decode_bytes(data: bytes) -> torch.Tensor:
    """What `decode_rgb` returns, of a file's content; call it inside `reading`."""
    if _is_whole_jpeg(data) and 0 < _jpeg_pixels(data) <= MOST_PIXELS:
        image = _decode_jpeg(data)
        if image is not None:
            return image
    return torch.from_numpy(decode_array(data)).permute(2, 0, 1)


def is_plain_jpeg(data: bytes, mode: str) -> bool:
    """Whether decoders of devices can read the file: JPEG with its end, colour or grey.

    Args:
        mode: PIL's name of the file's colour space.
    """
    return _is_whole_jpeg(data) and mode in ("RGB", "L")


def _is_whole_jpeg(data: bytes) -> bool:
    return data.startswith(JPEG_START) and JPEG_END in data[-TAIL:]


def _jpeg_pixels(data: bytes) -> int:
    """Height x width as the frame header says; 0 where none is found as libjpeg would."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7]) * int.from_bytes(data[at + 7 : at + 9])
        if marker != 0xFF and marker not in _SEGMENTS:
            return 0
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return 0


def _decode_jpeg(data: bytes) -> torch.Tensor | None:
    """Grey and colour JPEG by libjpeg-turbo; None for what PIL must judge (CMYK, damage)."""
    # bytearray: a tensor over read-only memory would warn.
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    try:
        image = decode_jpeg(encoded, mode=ImageReadMode.UNCHANGED)
    except RuntimeError:
        return None
    if image.shape[0] == 1:
        return image.expand(3, -1, -1)
    return image if image.shape[0] == 3 else None

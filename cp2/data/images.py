"""Decoding of photographs."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from cp2.errors import WrongFile

JPEG_START, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
TAIL = 1024  # bytes at the end in which a complete JPEG has its end marker


def decode_rgb(path: Path | str) -> torch.Tensor:
    """An image file as uint8 (3, H, W), channels last in memory.

    The same pixels as PIL's `convert("RGB")`: an EXIF rotation is not applied, transparency is
    dropped. 16-bit grey files are scaled to 8 bits (PIL would clip them to white).

    Raises:
        WrongFile: the file is missing, truncated, corrupt or no image.
    """
    path = Path(path)
    with reading(path):
        return decode_bytes(path.read_bytes())


def decode_bytes(data: bytes) -> torch.Tensor:
    """What `decode_rgb` returns, of a file's content; call it inside `reading`."""
    if _is_whole_jpeg(data):
        image = _decode_jpeg(data)
        if image is not None:
            return image
    return _decode_with_pil(data)


def is_plain_jpeg(data: bytes, mode: str) -> bool:
    """Whether decoders of devices can read the file: JPEG with its end, colour or grey.

    Args:
        mode: PIL's name of the file's colour space.
    """
    return _is_whole_jpeg(data) and mode in ("RGB", "L")


def _is_whole_jpeg(data: bytes) -> bool:
    return data.startswith(JPEG_START) and JPEG_END in data[-TAIL:]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what can go wrong with an image file into one message.

    Raises:
        WrongFile: the file is missing, truncated, corrupt or no image.
    """
    try:
        yield
    except FileNotFoundError:
        raise WrongFile(
            f"{path}: the image does not exist, although the data set's index names it; "
            "put it back or delete the data set's folder to have it prepared again"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise WrongFile(
            f"{path}: not readable as an image ({error}); "
            "replace the file or take it out of the data set"
        ) from None


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


def _decode_with_pil(data: bytes) -> torch.Tensor:
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I"):
            gray = (np.asarray(image).astype(np.int64) // 257).clip(0, 255).astype(np.uint8)
            pixels = np.repeat(gray[:, :, None], 3, axis=2)
        elif "transparency" in image.info:  # by way of RGBA: PIL warns about the direct way
            pixels = np.array(image.convert("RGBA").convert("RGB"))
        else:
            pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)

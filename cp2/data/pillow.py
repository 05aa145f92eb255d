"""Images by Pillow, of the formats that may be opened, with one error for all that may go wrong.

Imports no torch: data sets are prepared without it.
"""

import io
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from cp2 import errors

# What Pillow may open. Others start programs (EPS: Ghostscript) or are hardly tried.
_FORMATS = (
    *("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "TGA", "QOI"),
    *("PCX", "SGI"),
)
_DARK = 16  # an image of more than 8 bits whose brightest value comes to less was not scaled


@cache
def image_formats() -> tuple[str, ...]:
    """What images are opened as: formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@cache
def image_suffixes() -> frozenset[str]:
    """Lower-case suffixes of all files of these formats, with their dots."""
    kinds = {*image_formats(), "MPO"}  # which cameras write and Pillow opens as JPEG
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in known if kind in kinds)


def reading(path: Path) -> AbstractContextManager[None]:
    """Turns what can go wrong with an image file into one message.

    Raises:
        WrongFile: the file is missing, truncated, corrupt or no image.
    """
    return errors.reading(
        path,
        "a readable image",
        "replace the file or take it out of the data set",
        "the data set's index names it: put it back, or delete the data set's folder to have it "
        "prepared again",
    )


def tolerated(images: int) -> int:
    """How many of a set may be unreadable by accident: 1 %; of small sets a fifth, up to 10."""
    return int(max(0.01 * images, min(10, 0.2 * images)))


def open_image(file: Path | io.BytesIO) -> Image.Image:
    """An image's header, of one of `image_formats`; call it inside `reading`."""
    try:
        return Image.open(file, formats=image_formats())
    except UnidentifiedImageError:
        raise ValueError(f"its format is none of {', '.join(image_formats())}") from None


def orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8; 1 (upright) where the file says none or Pillow turns it by itself (TIFF)."""
    if image.format == "TIFF" or not any("exif" in key or "xmp" in key for key in image.info):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damage there spoils no pixel
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def decode_array(data: bytes) -> npt.NDArray[np.uint8]:
    """An image file's content as RGB (H, W, 3); call it inside `reading`.

    Raises:
        ValueError: its pixels have no one meaning in 8 bits. Other exceptions come from Pillow.
    """
    with open_image(io.BytesIO(data)) as image:
        deep = _has_more_bits(image, data)
        if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
            raise ValueError(
                f"mode {image.mode}, {'floats' if image.mode == 'F' else '32-bit or signed'}, has "
                "no one meaning in 8 bits; convert it to 8 or unsigned 16 bits"
            )
        if image.mode.startswith("I"):
            gray = (np.asarray(image) // 257).clip(0, 255).astype(np.uint8)
            pixels: npt.NDArray[np.uint8] = np.repeat(gray[:, :, None], 3, axis=2)
        elif "transparency" in image.info:  # by way of RGBA: PIL warns about the direct way
            pixels = np.array(image.convert("RGBA").convert("RGB"))
        else:
            pixels = np.array(image.convert("RGB"))
    if deep and pixels.max() < _DARK:
        raise ValueError(
            f"16-bit, but its brightest value would be {pixels.max()} of 255 in 8 bits: it was not "
            "scaled to 16 bits; scale it, or save it with 8 bits"
        )
    return pixels


def _has_more_bits(image: Image.Image, data: bytes) -> bool:
    """Whether a channel of the file has more than 8; Pillow keeps the upper ones of colours."""
    if image.format == "PNG":
        return data[24] > 8
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (8,))) > 8
    return image.mode.startswith("I")

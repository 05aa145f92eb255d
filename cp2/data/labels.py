"""Label pictures: reading, and the rules from each data set's ids to train ids.

Train ids are 0..K-1, and IGNORE for pixels that neither train nor count.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cp2.data.sbd import read_sbd
from cp2.errors import UserError, WrongFile, reading

if TYPE_CHECKING:
    import torch

IGNORE = 255
NOT_ALLOWED = -1
_FORMATS = ("PNG", "TIFF", "BMP", "GIF")  # that keep ids; Pillow scales those of PGM
# Pillow's name of a file's pixels -> what it multiplies them by, to fill 8 bits with grey.
_FACTORS = {"1": 1, "L": 1, "L;2": 85, "L;4": 17, "P": 1, "P;1": 1, "P;2": 1, "P;4": 1}
LabelTable = npt.NDArray[np.int16]  # (256,): raw value -> train id, IGNORE or NOT_ALLOWED
LabelMap = npt.NDArray[np.uint8]  # (H, W)

# Official labels.py of cityscapesScripts: labelId -> trainId
_CITYSCAPES = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip


def plain_table(num_classes: int) -> LabelTable:
    """Values are train ids already; IGNORE stays (VOC, SBD, a user's own labels)."""
    table = np.full(256, NOT_ALLOWED, np.int16)
    table[:num_classes] = np.arange(num_classes)
    table[IGNORE] = IGNORE
    return table


def mapped_table(values: Mapping[int, int], num_classes: int) -> LabelTable:
    """A user's own values -> train ids; IGNORE stays where it is not among them.

    Raises:
        UserError: a train id that the class list does not have, or none for its last class.
    """
    table = np.full(256, NOT_ALLOWED, np.int16)
    table[IGNORE] = IGNORE
    for value, train_id in values.items():
        if train_id >= num_classes and train_id != IGNORE:
            raise UserError(
                f"label_values: {value}: {train_id}, but the class list ends with {num_classes - 1}"
            )
        table[value] = train_id
    if num_classes - 1 not in table:
        raise UserError(
            f"label_values: no value becomes {num_classes - 1}, the class list's last; write "
            "`value in the labels: place in the class list, from 0` for each class"
        )
    return table


def ade20k_table(num_classes: int = 150) -> LabelTable:
    """0 is "other" and ignored, 1..K become 0..K-1 (`reduce_zero_label`)."""
    table = np.full(256, NOT_ALLOWED, np.int16)
    table[0] = IGNORE
    table[1 : num_classes + 1] = np.arange(num_classes)
    return table


def cityscapes_table() -> LabelTable:
    """19 of the 34 label ids are trained; the licence plate's -1 is stored as 255."""
    table = np.full(256, NOT_ALLOWED, np.int16)
    table[:34] = IGNORE
    table[IGNORE] = IGNORE
    table[list(_CITYSCAPES)] = list(_CITYSCAPES.values())
    return table


def camvid_table() -> LabelTable:
    """SegNet's 11 classes; 11 is void."""
    table = plain_table(11)
    table[11] = IGNORE
    return table


def num_train_ids(table: LabelTable) -> int:
    """K of a table."""
    return int(table[table != IGNORE].max()) + 1


def read_label(path: Path) -> LabelMap:
    """Raw label values (H, W): the index of a palette picture, never its colours; SBD's .mat too.

    Grey pictures of 1, 2 or 4 bits give the numbers that they hold.

    Raises:
        WrongFile: not readable, or not one channel of at most 8 bits.
    """
    if path.suffix == ".mat":
        with reading(path, "a label file of SBD", "get SBD's archive again"):
            return read_sbd(path.read_bytes())
    advice = "save the class ids as an 8-bit PNG"
    with (
        reading(path, f"a readable label ({', '.join(_FORMATS)})", advice),
        # Of bytes: from a file, Pillow would make room for any length that a chunk names.
        Image.open(io.BytesIO(path.read_bytes()), formats=_FORMATS) as picture,
    ):
        if (pages := getattr(picture, "n_frames", 1)) > 1:
            raise WrongFile(f"label {path} has {pages} pages, a label has one; {advice}")
        pixels = _pixel_format(picture)
        if picture.mode not in ("L", "P", "1") or pixels not in _FACTORS:
            raise WrongFile(
                f"label {path} has mode {picture.mode} (pixels {pixels}); allowed is one 8-bit "
                "channel (L, or P with a palette) that holds class ids, 255 to ignore"
            )
        return np.array(picture).astype(np.uint8) // _FACTORS[pixels]


def _pixel_format(picture: Image.Image) -> str:
    """What Pillow calls the layout of the file's pixels; a GIF's are always indices."""
    if picture.format == "GIF":
        return "P"
    pixels: Any = picture.tile[0].args  # type: ignore[attr-defined]  # of image files
    return str(pixels if isinstance(pixels, str) else pixels[0])


def to_train_ids(raw: LabelMap, table: LabelTable, path: Path) -> LabelMap:
    """Apply a table; `path` is for the error text.

    Raises:
        WrongFile: a value that the data set does not have.
    """
    counts = np.bincount(raw.ravel(), minlength=256)
    strange = np.flatnonzero((counts > 0) & (table == NOT_ALLOWED))
    if strange.size:
        value = int(strange[0])
        raise WrongFile(
            f"label {path} holds the value {value} in {counts[value]} pixels; "
            f"allowed are {_allowed(table)}"
        )
    return table.astype(np.uint8)[raw]


def _allowed(table: LabelTable) -> str:
    values = np.flatnonzero(table != NOT_ALLOWED)
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def decode_label(path: Path) -> "torch.Tensor":
    """Train ids of one image: uint8 (H, W), IGNORE (255) where nothing counts.

    Raises:
        WrongFile: the file cannot be read or is not one 8-bit channel.
    """
    import torch  # only here: data sets are prepared without it

    return torch.from_numpy(read_label(path))

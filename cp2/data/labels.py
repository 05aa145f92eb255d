"""Label pictures: reading, and the rules from each data set's ids to train ids.

Train ids are 0..K-1, and IGNORE for pixels that neither train nor count.
"""

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.io
import torch
from PIL import Image, UnidentifiedImageError

from cp2.errors import WrongFile

IGNORE = 255
NOT_ALLOWED = -1
_NO_SBD = (
    scipy.io.matlab.MatReadError,
    zlib.error,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    NotImplementedError,  # version 7.3, which is HDF5
)
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

    Raises:
        WrongFile: not readable, or not one 8-bit channel.
    """
    return _read_sbd(path) if path.suffix == ".mat" else _read_picture(path)


def _read_picture(path: Path) -> LabelMap:
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("L", "P"):
                raise WrongFile(
                    f"label {path} has mode {picture.mode}; allowed is one 8-bit channel "
                    "(L, or P with a palette) that holds class ids, 255 to ignore"
                )
            return np.array(picture)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise WrongFile(f"label {path} cannot be read ({error})") from error


def _read_sbd(path: Path) -> LabelMap:
    try:
        content = scipy.io.loadmat(path, variable_names=["GTcls"])
        return np.asarray(content["GTcls"]["Segmentation"][0, 0], dtype=np.uint8)
    except _NO_SBD as error:
        raise WrongFile(f"{path} is not a label file of SBD ({error!r})") from error


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


def decode_label(path: Path) -> torch.Tensor:
    """Train ids of one image: uint8 (H, W), IGNORE (255) where nothing counts.

    Raises:
        WrongFile: the file cannot be read or is not one 8-bit channel.
    """
    return torch.from_numpy(read_label(path))

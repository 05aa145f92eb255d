"""SBD's label files: the one array that is wanted of a MATLAB 5 file, read in bounded memory.

Source: MathWorks, "MAT-File Format", level 5. scipy's reader would build all that a file asks for.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

MOST_BYTES = 64 << 20  # of all variables when they are unpacked; SBD's have 0.3 MB
_ELEMENTS = 1000  # in a row; SBD's have a dozen
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}


def read_sbd(data: bytes) -> npt.NDArray[np.uint8]:
    """GTcls.Segmentation (H, W) of a file's content.

    Raises:
        ValueError: it is no such file. Other exceptions may escape from damaged ones.
    """
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(data[124:128])
    if order is None:
        raise ValueError("it is no MATLAB 5 file")
    left = MOST_BYTES
    for kind, content in _elements(data[128:], order):
        if kind == _COMPRESSED:
            unpacked = _unpacked(content, left)
            left -= len(unpacked)
            kind, content = next(_elements(unpacked, order))
        if kind == _MATRIX and _name(content, order) == b"GTcls":
            return _array(_field(content, order, b"Segmentation"), order)
    raise ValueError("it holds no variable GTcls")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of each element; up to 4 bytes of content lie in the tag itself."""
    at = count = 0
    while at + 8 <= len(data):
        count += 1
        if count > _ELEMENTS:
            raise ValueError(f"it holds more than {_ELEMENTS} elements in a row")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start, end = at + 8, at + 8 + size
        if kind >> 16:
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        content = data[start : start + size]
        if len(content) < size:
            raise ValueError("it is cut")
        yield kind, content
        at = end if kind == _COMPRESSED else -(-end // 8) * 8


def _unpacked(content: bytes, most: int) -> bytes:
    data = zlib.decompressobj().decompress(content, most + 1)
    if len(data) > most:
        raise ValueError(f"its variables unpack to more than {MOST_BYTES} bytes")
    return data


def _name(matrix: bytes, order: str) -> bytes:
    """A matrix begins with flags, dimensions and its name."""
    return list(islice(_elements(matrix, order), 3))[2][1]


def _field(struct_matrix: bytes, order: str, wanted: bytes) -> bytes:
    """A field of a structure: behind its name lie the names' length, the names and the fields."""
    parts = [content for _, content in _elements(struct_matrix, order)][3:]
    length = int.from_bytes(parts[0], "little" if order == "<" else "big")
    names = [parts[1][i : i + length].rstrip(b"\0") for i in range(0, len(parts[1]), length)]
    return parts[2:][names.index(wanted)]


def _array(matrix: bytes, order: str) -> npt.NDArray[np.uint8]:
    _, (_, extent), _, (kind, content), *_ = _elements(matrix, order)
    height, width = np.frombuffer(extent, f"{order}i4").tolist()
    values = np.frombuffer(content, order + _NUMBERS[kind]).reshape(width, height).T
    ids = values.astype(np.uint8)
    if (ids != values).any():
        raise ValueError("it holds values outside 0..255")
    return ids

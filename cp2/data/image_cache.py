"""A decoded copy of a data set at a fixed short side: one memory-mapped file and an index."""

import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from cp2.data.derived import DerivedRecord, check_source, make_again, read_record
from cp2.data.index import DatasetIndex
from cp2.data.sources import OpenImage
from cp2.errors import WrongFile

PIXELS = "pixels.u8"
ROWS = "rows.i64"
RECORD = "cache.json"
VERSION = 1  # of the layout and of how images are shrunk
# Columns of rows.i64, one row an image in the split's order. Height 0: the file was unreadable.
OFFSET, HEIGHT, WIDTH, CRC = range(4)
COLUMNS = 4


class CacheRecord(DerivedRecord):
    """Content of cache.json, written when pixels.u8 and rows.i64 are in their place.

    pixels.u8 holds the images one after the other, uint8 (height, width, 3).
    """

    version: int
    unreadable: int
    short_side: int
    size: int  # bytes of pixels.u8
    rows_crc: int


class CachedImages:
    """Source of the images of one data set, for `PretrainDataset`.

    Raises:
        WrongFile: the files are missing or damaged, of another version, or made from another data
            set.
    """

    scaled: bool = False

    def __init__(self, folder: Path, index: DatasetIndex) -> None:
        self.folder = folder
        self.record = read_cache_record(folder)
        self._check(index)
        self._names = np.array([str(path) for path in index.names(index.pretraining_split)])
        self._rows = self._read_rows()

    def __len__(self) -> int:
        return self.record.images

    def name(self, index: int) -> str:
        return str(self._names[index])

    def open(self, index: int) -> OpenImage:
        height, width = self._rows[index, [HEIGHT, WIDTH]].tolist()
        if not height:
            raise WrongFile(
                f"{self.name(index)}: not readable as an image when {self.folder} was made; "
                "replace the file, delete that folder and make it again"
            )
        return OpenImage(height, width, lambda scale: self._image(index, height, width))

    def _image(self, index: int, height: int, width: int) -> torch.Tensor:
        start = int(self._rows[index, OFFSET])
        pixels = self._pixels[start : start + height * width * 3]
        return torch.from_numpy(pixels.reshape(height, width, 3)).permute(2, 0, 1)

    @cached_property
    def _pixels(self) -> np.ndarray:
        # Copy on write: torch wants writable memory, and nothing ever writes.
        return np.memmap(self.folder / PIXELS, dtype=np.uint8, mode="c")

    def __getstate__(self) -> dict[str, object]:
        """For workers that are not forked: they map the file themselves."""
        return {key: value for key, value in vars(self).items() if key != "_pixels"}

    def _check(self, index: DatasetIndex) -> None:
        record = self.record
        check_source(record, index, self.folder, "cache")
        path = self.folder / PIXELS
        size = path.stat().st_size if path.is_file() else 0
        if size != record.size:
            raise WrongFile(
                f"{path} has {size} bytes, {RECORD} says {record.size}; {_again(self.folder)}"
            )

    def _read_rows(self) -> np.ndarray:
        path = self.folder / ROWS
        data = path.read_bytes() if path.is_file() else b""
        expected = self.record.images * COLUMNS * 8
        if len(data) != expected or zlib.crc32(data) != self.record.rows_crc:
            raise WrongFile(
                f"{path} is damaged ({len(data)} bytes of {expected}, or another checksum); "
                f"{_again(self.folder)}"
            )
        return np.frombuffer(data, dtype=np.int64).reshape(-1, COLUMNS)


def check_pixels(pixels: Path, rows: np.ndarray) -> None:
    """Read every image of the file back and compare checksums.

    Args:
        rows: (images, COLUMNS).
    Raises:
        WrongFile: names the first image that differs.
    """
    with pixels.open("rb") as file:
        for number, (_, height, width, crc) in enumerate(rows.tolist()):
            if zlib.crc32(file.read(height * width * 3)) != crc:
                raise WrongFile(
                    f"{pixels}: image {number} is not what was written; the disk may be failing. "
                    f"Delete {pixels.parent} and make the cache again"
                )


def read_cache_record(folder: Path) -> CacheRecord:
    """What cache.json says.

    Raises:
        WrongFile: it is missing or damaged, or another version of this program wrote it.
    """
    record = read_record(folder / RECORD, CacheRecord, "cache")
    if record.version != VERSION:
        raise WrongFile(
            f"{folder} is a cache of version {record.version}, this program reads version "
            f"{VERSION}; {_again(folder)}"
        )
    return record


def _again(folder: Path) -> str:
    return make_again(folder, "cache")

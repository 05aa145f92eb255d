"""Decoded labelled images kept in memory, once for all data loading processes."""

import mmap
import multiprocessing
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# Columns of the table, one row an image and a last one: the number of bytes used, and whether it is
# closed.
_OFFSET, _HEIGHT, _WIDTH = range(3)
_CLOSED = _HEIGHT
_COLUMNS = 3
CHECK_BYTES = 64 * 10**6  # filled between two looks at what the system has left
CHANNELS = 4  # of a pixel: red, green, blue, label


class DecodedPairs:
    """Room for the pixels of `count` images and labels, filled as they are first decoded.

    The memory is shared with processes that are forked from this one, and taken from the system
    only as it is filled. A copy that is handed to another process in another way keeps nothing.
    What no longer fits is decoded each time; the pixels are the same either way.

    Args:
        limit: bytes of pixels, at most.
        reserve: bytes to leave free: other jobs fill their memory, too.
    """

    def __init__(self, count: int, limit: int, reserve: int = 0) -> None:
        self._count, self._reserve = count, reserve
        self._table = _shared(8 * _COLUMNS * (count + 1)).view(np.int64).reshape(-1, _COLUMNS)
        try:
            self._pixels = _shared(limit)
        except (OSError, OverflowError):  # more than the system promises anyone
            self._pixels = _shared(0)
        forks = "fork" in multiprocessing.get_all_start_methods()
        self._lock = multiprocessing.get_context("fork").Lock() if forks else nullcontext()

    def __reduce__(self) -> tuple[type["DecodedPairs"], tuple[int, int]]:
        return DecodedPairs, (self._count, 0)

    @property
    def limit(self) -> int:
        """Bytes that there is room for."""
        return len(self._pixels)

    @property
    def used(self) -> int:
        """Bytes taken."""
        return int(self._table[-1, _OFFSET])

    @property
    def closed(self) -> bool:
        """Whether it takes no more, because memory ran short."""
        return bool(self._table[-1, _CLOSED])

    @property
    def kept(self) -> int:
        """Number of images kept."""
        return int((self._table[:-1, _HEIGHT] > 0).sum())

    def get(self, index: int) -> tuple[Tensor, Tensor] | None:
        """Image uint8 (3, H, W) and label uint8 (H, W), not to be written to; None if not kept."""
        with self._lock:
            start, height, width = self._table[index].tolist()
        if not height:
            return None
        middle, end = (start + channels * height * width for channels in (3, CHANNELS))
        image = torch.from_numpy(self._pixels[start:middle].reshape(height, width, 3))
        label = torch.from_numpy(self._pixels[middle:end].reshape(height, width))
        return image.permute(2, 0, 1), label

    def put(self, index: int, image: Tensor, label: Tensor) -> None:
        """Keep an image (3, H, W) and its label (H, W), both uint8, if there is room."""
        height, width = label.shape
        size = CHANNELS * height * width
        with self._lock:
            start = self.used
            if start + size > self.limit or self._table[index, _WIDTH] or self.closed:
                return
            if self._reserve and start // CHECK_BYTES != (start + size) // CHECK_BYTES:
                self._table[-1, _CLOSED] = available_memory() < self._reserve
            self._table[-1, _OFFSET] += size
            self._table[index, _WIDTH] = -1  # another process that decodes it takes no room
        pixels = self._pixels[start : start + size]
        pixels[: -height * width].reshape(height, width, 3)[:] = image.permute(1, 2, 0).numpy()
        pixels[-height * width :].reshape(height, width)[:] = label.numpy()
        with self._lock:  # seen by others only now that it is whole
            self._table[index] = start, height, width


def _shared(size: int) -> np.ndarray:
    if not size:
        return np.empty(0, dtype=np.uint8)
    return np.frombuffer(mmap.mmap(-1, size), dtype=np.uint8)


# Version 2 and 1 of Linux' control groups: limit, usage, and the key of memory.stat for cached
# file pages, which the kernel gives back when memory runs short.
_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that are free on the machine and within the limits of this job's control groups.

    0 where the system does not say (no Linux).

    Args:
        root: where `proc` and `sys` are.
    """
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
    return max(0, min([free, *_left_in_groups(root)]))


def _left_in_groups(root: Path) -> Iterator[int]:
    """Of every group that this process is in: a scheduler's limit may lie on any level."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        kind = "memory" if controllers else ""
        top = root / "sys/fs/cgroup" / kind
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            left = _left(folder, *_FILES[kind])
            if left is not None:
                yield left
            if folder == top:
                break


def _left(folder: Path, limit: str, usage: str, cached: str) -> int | None:
    try:
        most = (folder / limit).read_text(encoding="ascii").strip()
        if most == "max":
            return None
        used = int((folder / usage).read_text(encoding="ascii"))
        rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(most) - used + int(rows.get(cached, 0))
    except (OSError, ValueError):
        return None

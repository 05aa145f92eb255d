"""Growing files of lines: written through a full disk, their ends read without the rest."""

import os
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path

from cp2.errors import UserError
from cp2.record.files import append_to, disk_is_full

_BLOCK = 16384  # bytes; a line of metrics has some 300
MOST = 100_000  # lines that wait; beyond it the oldest are given up


class LineWriter:
    """Appends lines to a file, each once.

    While the disk is full or a quota used up, lines wait, and are written, in their order, with the
    first one that has room. That is said once on standard error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: deque[str] = deque(maxlen=MOST)
        self._said = False

    def write(self, line: str) -> None:
        """Append a line, now or when there is room.

        Raises:
            OSError: anything but a want of space.
        """
        self._waiting.append(line)
        self.flush()

    @property
    def waiting(self) -> list[str]:
        """Lines that the file does not have yet."""
        return list(self._waiting)

    def flush(self) -> bool:
        """Write what waits; whether nothing waits any more."""
        if not self._waiting:
            return True
        try:
            _append(self.path, "".join(f"{line}\n" for line in self._waiting).encode())
        except OSError as error:
            if not disk_is_full(error):
                raise
            if not self._said:
                self._said = True
                tell(f"{self.path}: no space left on the disk; lines wait in memory for some")
            return False
        self._waiting.clear()
        self._said = False
        return True


def append_line(path: Path, line: str) -> None:
    """Append one line of text; on a new line, even where a kill or a full disk cut the last one.

    Raises:
        UserError: the disk is full.
    """
    try:
        _append(path, f"{line}\n".encode())
    except OSError as error:
        if disk_is_full(error):
            raise UserError(f"{path}: no space left on the disk; free some and go on") from error
        raise


def last_lines(path: Path) -> list[str]:
    """Whole lines within the file's last 16 KiB, in their order; none where it is not readable.

    A line that is being written and one cut by the block's beginning are left out.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _BLOCK))
            block = file.read()
    except OSError:
        return []
    lines = block.split(b"\n")
    lines = lines[1:-1] if size > _BLOCK else lines[:-1]
    return [line.decode("utf-8", errors="replace") for line in lines]


def tell(line: str) -> None:
    """To standard error, which may lie on the full disk, too."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _append(path: Path, content: bytes) -> None:
    """All of it, on a new line, or nothing."""
    with append_to(path, buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size and (file.seek(size - 1), file.read(1))[1] != b"\n":
            content = b"\n" + content
        written = 0
        try:
            while written < len(content):
                written += file.write(content[written:]) or 0
        except OSError:
            file.truncate(size)
            raise

"""Files that are either whole or not there."""

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from cp2.errors import UserError, reading

PROBE_BYTES = 1 << 16  # more than the lines of a log that a full disk may still take
UNUSABLE = {
    errno.ENOSPC: "no space left on the disk; free some",
    errno.EDQUOT: "the quota of this user or group is used up; free some space",
    errno.EACCES: "this user has no permission to write there",
    errno.EPERM: "this user has no permission to write there",
    errno.EROFS: "the file system is mounted read-only on this machine",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file of this name is in the way",
    errno.ESTALE: "the network file system lost it (stale handle)",
    errno.ENOENT: "it, or the folder it lies in, is gone; was it moved, deleted or unmounted?",
    errno.EIO: "the disk or its network does not answer (input/output error)",
    errno.ENOTCONN: "its file system is no longer mounted",
    errno.EHOSTDOWN: "its file server does not answer",
    errno.ETIMEDOUT: "its file server does not answer",
}


def append_to(path: Path, buffering: int = -1) -> BinaryIO:
    """A file open for appending and reading; what others put in the way is refused.

    Raises:
        UserError: the path is a symbolic link, a folder or anything else than a file.
    """
    try:
        return open(path, "a+b", buffering, opener=_no_link)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(
                f"{path}: is a link, through which another file would be written; remove it"
            ) from error
        if error.errno == errno.EISDIR:
            raise UserError(f"{path}: is a folder, must be a file; remove it") from error
        raise


def _no_link(path: str, flags: int) -> int:
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UserError(f"{path}: is neither a file nor a folder; remove it")
    return handle


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success fsync it and rename it to `path`.

    A power cut at any moment leaves the old file, or none, or the whole new one.

    Raises:
        UserError: the disk is full; the half-written temporary file is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # a link of this name would be written through
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if disk_is_full(error):
            raise UserError(
                f"{path}: no space left on the disk; nothing half-written was kept. Free some "
                "space and start the same command again: it goes on from the last saved state."
            ) from error
        raise


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last through a power cut, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_writable(folder: Path) -> None:
    """Make a folder and try to write to it, so that what is wrong with it shows at the start.

    Raises:
        UserError: says what the system answered and what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        known = UNUSABLE.get(error.errno or 0, error.strerror)
        raise UserError(
            f"{folder}: cannot be written to: {known}. Mend that, or choose another folder with "
            "--set campaign.execution.results=<folder>"
        ) from error


def clear_temporaries(folder: Path) -> None:
    """Remove what killed writers left; only for a folder that nobody else writes to."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def disk_is_full(error: BaseException | None) -> bool:
    """Whether this error, or one that caused it, is a full disk or an exceeded quota.

    torch and safetensors wrap the operating system's error and keep only its text.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or none."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values give equal files."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        WrongFile: it cannot be read or is not JSON.
    """
    again = "delete it and make it again"
    with reading(path, "readable JSON", again, "make it with its stage's command"):
        return json.loads(path.read_text(encoding="utf-8"))


def parse_json(text: str | bytes) -> Any:
    """A line of JSON that others may have written.

    Raises:
        ValueError: it is none, not UTF-8 or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error

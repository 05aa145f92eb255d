"""Signs of life: a file whose time is renewed while its writer lives."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BEAT_SECONDS = 30.0


@contextmanager
def beating(path: Path, still_ours: Callable[[], bool], lost: Callable[[], None]) -> Iterator[None]:
    """Renew a file's modification time meanwhile; call `lost` once it is no longer ours."""
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(BEAT_SECONDS):
            try:
                if not still_ours():
                    lost()
                    return
                os.utime(path)
            except OSError:
                continue  # a file system that is away for a moment; the next beat tries again

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def age(path: Path) -> float:
    """Seconds since a file's last beat, by the clock of its own file system.

    The clocks of two machines may differ by hours; the times that one file system gives do not. In
    a folder that cannot be written to, this machine's clock has to do.

    Raises:
        FileNotFoundError: it is gone.
    """
    return max(0.0, _now(path.parent) - _beat_of(path))


def moves(path: Path, seconds: float) -> bool:
    """Whether a beat comes within so many seconds: needs no clock at all."""
    first = _beat_of(path)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(min(1.0, seconds / 10))
        try:
            if _beat_of(path) != first:
                return True
        except FileNotFoundError:
            return False
    return False


def _beat_of(path: Path) -> float:
    with path.open("rb") as file:  # opening makes NFS ask its server again
        return os.fstat(file.fileno()).st_mtime


def _now(folder: Path) -> float:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.utime(file.fileno())
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()

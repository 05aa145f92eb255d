"""One process works on a run at a time, whatever the file system offers.

`.lock` is held with flock, which the system lets go of however the process ends. Where a file
system has no flock, `.claim` stands for it: a file that only one process can make. Both name their
owner and are renewed every half minute: the sign of life that other machines see.
"""

import errno
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cp2.errors import UserError
from cp2.record import claim
from cp2.record.claim import HeldError
from cp2.record.files import append_to, check_writable
from cp2.record.heartbeat import BEAT_SECONDS, age, beating, moves
from cp2.record.kept import FOLDER
from cp2.record.owner import Owner, read_owner, this_process

LOCK, CLAIM = ".lock", ".claim"
QUIET_SECONDS = 2.2 * BEAT_SECONDS  # without a beat: an owner that also lost its flock is dead
PATIENCE_SECONDS = 2.0  # for `holder`, which looks at the lock for a moment
REQUEUED_SECONDS = 90.0  # for this job's own process before a requeue; Slurm's KillWait is 30
NO_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


@dataclass(frozen=True)
class Holder:
    """Who holds a run; `age` is the seconds since the last sign of life."""

    owner: Owner
    age: float


@contextmanager
def hold(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a run's folder for this process.

    Args:
        wait: for a process that holds it, however long; that is said once.
    Raises:
        HeldError: another process holds it (names it, and what to do).
        UserError: the folder cannot be written to.
    """
    check_writable(folder)
    for name in ("state", "snapshots", "pictures", FOLDER):
        if (folder / name).is_symlink():
            raise UserError(f"{folder / name}: is a link, through which is not written; remove it")
    me = this_process()
    said = False
    while True:
        try:
            file = _take(folder, me)
            break
        except HeldError as error:
            if not wait:
                raise
            if not said:
                print(f"waiting: {error}", flush=True)
            said = True
            time.sleep(1)
    path = folder / (LOCK if file else CLAIM)
    try:
        with beating(path, lambda: path.read_bytes() == me.write(), lambda: _lost(path)):
            yield
    finally:
        if file is None:
            claim.give_back(path, me)
        else:
            file.truncate(0)
            _forget(file)


def holder(folder: Path) -> Holder | None:
    """Who works on a run now; looks, and takes nothing."""
    found = read_owner(folder / CLAIM)
    try:
        if found and claim.is_alive(folder / CLAIM, found):
            return Holder(found, age(folder / CLAIM))
        found = read_owner(folder / LOCK)
        if found and _is_locked(folder / LOCK, found):
            return Holder(found, age(folder / LOCK))
    except FileNotFoundError:  # let go of just now
        pass
    return None


def _take(folder: Path, me: Owner) -> BinaryIO | None:
    """The lock's open file; None where a claim stands for it."""
    try:
        file = _flocked(folder, me)
    except PermissionError as error:
        raise UserError(
            f"{folder / LOCK}: belongs to somebody else ({error.strerror}); ask its owner for "
            "write permission, or choose another folder with --set campaign.execution.results=..."
        ) from error
    if file is None:
        _claimed(folder / CLAIM, me)
    return file


def _flocked(folder: Path, me: Owner) -> BinaryIO | None:
    """The lock's open file, ours now; None where the file system has no flock."""
    path = folder / LOCK
    file = append_to(path)
    try:
        if not _try_flock(file, me):
            file.close()
            return None
        before = read_owner(path)
        if before:
            _take_over(folder, before)
        file.truncate(0)
        file.write(me.write())
        file.flush()
    except BaseException:
        file.close()
        raise
    _held.add(file)
    return file


def _claimed(path: Path, me: Owner) -> None:
    until = time.monotonic() + REQUEUED_SECONDS
    while (owner := read_owner(path)) and me.same_job(owner) and time.monotonic() < until:
        with suppress(FileNotFoundError):
            if not claim.is_alive(path, owner):
                break
        time.sleep(0.5)
    claim.take(path, me)


def _try_flock(file: BinaryIO, me: Owner) -> bool:
    begin, waits = time.monotonic(), False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            own = me.same_job(read_owner(Path(file.name)))
            if own and not waits:
                waits = True
                print(f"{file.name}: waiting for this job's process before it was queued again")
            if time.monotonic() > begin + (REQUEUED_SECONDS if own else PATIENCE_SECONDS):
                raise claim.refusal(Path(file.name)) from None
            time.sleep(0.1)
        except OSError as error:
            if error.errno in NO_FLOCK:
                return False
            raise


def _take_over(folder: Path, before: Owner) -> None:
    """The owner before did not let go. Its flock is gone, so it is dead, unless it is elsewhere and
    the file system keeps flocks to one machine (Lustre's localflock): then its beats go on."""
    path = folder / LOCK
    if not before.is_here and age(path) < claim.STALE_SECONDS:
        print(f"{folder}: waiting to see whether {before} still works on this run", flush=True)
        if moves(path, QUIET_SECONDS):
            raise claim.refusal(path)
    print(f"{folder}: {before} ended without letting go of this run; taken over", flush=True)


def _is_locked(path: Path, owner: Owner) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return not owner.is_here and age(path) < QUIET_SECONDS


def _lost(path: Path) -> None:
    """This process slept too long, or somebody removed its lock: two must not go on."""
    owner = read_owner(path) or "nobody"
    print(f"{path}: names {owner} now, not this process; it stops unsaved", file=sys.stderr)
    main = threading.main_thread().ident
    if main is None or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        os._exit(1)  # started in the background of a shell, where an interrupt does nothing
    signal.pthread_kill(main, signal.SIGINT)


_held: set[BinaryIO] = set()


def _forget(file: BinaryIO) -> None:
    _held.discard(file)
    file.close()


def _forget_all() -> None:
    for file in list(_held):
        _forget(file)


# A flock lives as long as any copy of its file, and a forked data loading process outlives a
# killed parent by seconds. Closing the child's copy leaves the parent's lock as it is.
os.register_at_fork(after_in_child=_forget_all)

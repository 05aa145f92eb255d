"""A lock for file systems without flock: a file that only one process can make."""

import os
from contextlib import suppress
from pathlib import Path

from cp2.errors import UserError
from cp2.record.heartbeat import BEAT_SECONDS, age, moves
from cp2.record.owner import Owner, read_owner

STALE_SECONDS = 300.0  # without a beat: the owner is dead


class HeldError(UserError):
    """Another process works on the run."""


def take(path: Path, me: Owner) -> None:
    """Make the file in this process' name; a dead owner's is taken over, and said.

    Raises:
        HeldError: its owner lives.
    """
    for _ in range(3):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            _clear(path)
            continue
        with os.fdopen(handle, "wb") as file:
            file.write(me.write())
        return
    raise refusal(path)  # others were quicker each time


def give_back(path: Path, me: Owner) -> None:
    """Remove the file, if it is still ours."""
    if read_owner(path) == me:
        path.unlink(missing_ok=True)


def is_alive(path: Path, owner: Owner) -> bool:
    """Whether a claim's owner seems to be at work.

    Raises:
        FileNotFoundError: the claim is gone.
    """
    if owner.is_here and not owner.lives_here():
        return False
    return age(path) < STALE_SECONDS


def refusal(path: Path) -> HeldError:
    """What to tell the second process."""
    owner = read_owner(path) or Owner()
    with suppress(FileNotFoundError):
        seen = f"last sign of life {age(path):.0f} s ago"
        return HeldError(
            f"{path.parent}: {owner} is working on this run ({seen}). Wait for it, or end it "
            f"({owner.how_to_end()}); it goes on from its saved state. A dead one's lock is taken "
            f"over by itself; if you are sure that this one is dead, delete {path}"
        )
    return HeldError(f"{path.parent}: another process took this run just now; try again")


def _clear(path: Path) -> None:
    """Remove a dead owner's claim.

    Raises:
        HeldError: it lives.
    """
    try:
        content = path.read_bytes()
        owner = read_owner(path) or Owner()  # empty: its owner is writing it, or died doing so
        if is_alive(path, owner):
            raise refusal(path)
        # Some file systems stamp with the writer's clock: an old stamp alone proves nothing.
        if not owner.is_here and moves(path, 1.2 * BEAT_SECONDS):
            raise refusal(path)
    except FileNotFoundError:
        return
    print(f"{path.parent}: {owner} left this run without a word; taken over", flush=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if aside.read_bytes() != content:  # a quicker one's claim: give it back
            with suppress(OSError):
                os.link(aside, path)
        aside.unlink()

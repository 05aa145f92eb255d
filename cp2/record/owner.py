"""Who works on a run: what a lock's file says."""

import json
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

from cp2.record.files import parse_json


@dataclass(frozen=True)
class Owner:
    """A process; None where the file does not say.

    Attributes:
        job: the scheduler's job, if it is in one.
        token: tells two owners with the same numbers apart.
    """

    job: str | None = None
    host: str | None = None
    pid: int | None = None
    token: str | None = None

    def __str__(self) -> str:
        if self.pid is None:
            return "another process"
        job = f"job {self.job}, " if self.job else ""
        return f"{job}process {self.pid} on {self.host}"

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.host == socket.gethostname()

    def same_job(self, other: "Owner | None") -> bool:
        """Whether both belong to one job of the scheduler: before and after a requeue."""
        return other is not None and self.job is not None and self.job == other.job

    def lives_here(self) -> bool:
        """Whether this machine runs a process of its number."""
        if not self.is_here or self.pid is None:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # somebody else's
            pass
        return True

    def how_to_end(self) -> str:
        """A command for the user."""
        if self.job:
            return f"`scancel {self.job}`"
        return f"`kill {self.pid}` on {self.host}" if self.pid is not None else "by its number"

    def write(self) -> bytes:
        """As the file's content."""
        return json.dumps(vars(self)).encode()


def this_process() -> Owner:
    """The one that asks."""
    job = os.environ.get("SLURM_JOB_ID")
    return Owner(job, socket.gethostname(), os.getpid(), uuid.uuid4().hex)


def read_owner(path: Path) -> Owner | None:
    """The owner that a lock's file names; None where there is no file or it was let go of."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if not content:
        return None
    try:
        found = parse_json(content)
        job, token, pid = found["job"], found["token"], int(found["pid"])
        if not 0 < pid < 1 << 31:
            return Owner()
        return Owner(None if job is None else str(job), str(found["host"]), pid, str(token))
    except (ValueError, KeyError, TypeError, OverflowError):
        return Owner()

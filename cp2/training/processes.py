"""One training on several GPUs: the command starts one process a GPU and watches over them.

On several nodes each has such a command, and the processes of all train together.

What `torchrun --standalone` does, for a program that has exit codes of its own, may take minutes
to save after a signal, and is started again by the scheduler rather than by its launcher.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from types import FrameType

from cp2.errors import PassingError, UserError, may_pass
from cp2.record.files import write_json
from cp2.training.clock import RESUME_EXIT_CODE, StoppedForResumeError
from cp2.training.nodes import ALONE, Node

RANK, PROCESSES, RENDEZVOUS = "CP2_RANK", "CP2_PROCESSES", "CP2_RENDEZVOUS"
LOCAL_RANK = "CP2_LOCAL_RANK"  # which of the machine's GPUs
MEETING = "CP2_MEETING"  # host:port where processes of several nodes meet
GRACE_SECONDS = 10.0  # for the others to say what they saw of one that failed
POLL_SECONDS = 0.1
_HANDED_ON = (signal.SIGTERM, signal.SIGINT)
_INTERRUPTED = (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGINT)  # before they listened


def this_rank() -> tuple[int, int] | None:
    """Number of this process and of all processes; None where no launcher started it."""
    if RANK not in os.environ:
        return None
    return int(os.environ[RANK]), int(os.environ[PROCESSES])


def launch(arguments: Sequence[str], processes: int, node: Node) -> None:
    """Run `cp2 <arguments>` in so many processes of this node and return when all are done.

    SIGTERM and SIGINT are handed on; all then save at one step and leave.

    Raises:
        StoppedForResumeError: they saved their state and stopped.
        UserError: one failed; says which and why. The others are ended.
    """
    watch_over([sys.executable, "-m", "cp2", *arguments], processes, node)


def watch_over(command: Sequence[str], processes: int, node: Node = ALONE) -> None:
    """`launch` for any command."""
    with tempfile.TemporaryDirectory(prefix="cp2-") as folder:
        team = _Team(Path(folder), node)
        with team.signals_handed_on():
            try:
                team.start(command, processes)
                team.wait()
            finally:
                team.end()
        team.judge()


class _Team:
    """The started processes of a node, by rank."""

    def __init__(self, folder: Path, node: Node) -> None:
        self._folder, self._node = folder, node
        self._signalled = False
        self._failed: list[int] = []  # in the order in which they ended
        self._members: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, command: Sequence[str], processes: int) -> None:
        """Start them; each knows its number, the count, and where they meet."""
        for i in range(processes):
            environment = _environment(self._folder, i, processes, self._node)
            member = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
            self._members[int(environment[RANK])] = member
        if self._signalled:
            self._hand_on()

    @contextmanager
    def signals_handed_on(self) -> Iterator[None]:
        """SIGTERM and SIGINT reach all members as SIGTERM; the launcher itself waits for them, and
        is interrupted by a second SIGINT."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            self._signalled = True
            if number == signal.SIGINT:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            self._hand_on()

        before = {number: signal.signal(number, on_signal) for number in _HANDED_ON}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._node.count > 1:  # srun ends the others by it as soon as one has left
                signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _hand_on(self) -> None:
        for member in self._members.values():
            member.send_signal(signal.SIGTERM)  # nothing happens where it has ended

    def wait(self) -> None:
        """Until all have ended, or one has failed and the others had their time to say so."""
        until = float("inf")
        while time.monotonic() < until:
            codes = {rank: member.poll() for rank, member in self._members.items()}
            for rank, code in codes.items():
                if code not in (None, 0, RESUME_EXIT_CODE) and rank not in self._failed:
                    self._failed.append(rank)
            if None not in codes.values():
                return
            if self._failed and until == float("inf"):
                until = time.monotonic() + GRACE_SECONDS
            time.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Kill what is left: an exchange with a failed process would never end."""
        for member in self._members.values():
            if member.poll() is None:
                member.kill()
        for member in self._members.values():
            member.wait()
            if member.stdin:
                member.stdin.close()

    def judge(self) -> None:
        """Turn the exit codes into this process' outcome."""
        codes = {rank: member.returncode for rank, member in self._members.items()}
        if self._failed:
            said = any(map(self._note, self._failed))  # a signal may end it after that, too
            if self._signalled and not said and all(codes[r] in _INTERRUPTED for r in self._failed):
                raise StoppedForResumeError(
                    "stopped by a signal, with nothing to save yet", signalled=True
                )
            raise self._cause()
        if RESUME_EXIT_CODE in codes.values():
            raise StoppedForResumeError(
                f"all {self._node.count * len(codes)} processes saved and stopped",
                signalled=self._signalled,
            )

    def _cause(self) -> UserError:
        """What the process said that failed for a reason of its own.

        The others fail after it, because it no longer answers: a message for the user comes
        before a process that ended without a word, and that before what came first.
        """
        said = sorted(filter(None, map(self._note, self._failed)), key=lambda note: note.time)
        for note in said:
            if note.user:
                return PassingError(note.text) if note.passing else UserError(note.text)
        silent = [rank for rank in self._failed if self._note(rank) is None]
        rank = silent[0] if silent else said[0].rank
        how = _ending(self._members[rank].returncode) if silent else said[0].text
        several = self._node.count > 1
        elsewhere = " (if it lost one of another node, that node's lines say why)" * several
        return PassingError(
            f"process {rank} of {self._node.count * len(self._members)} failed: {how}{elsewhere}. "
            "The others were stopped; starting again goes on from the last save"
        )

    def _note(self, rank: int) -> "_Note | None":
        path = _note_file(self._folder, rank)
        return _Note(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


@dataclass(frozen=True)
class _Note:
    """What a failing process leaves for its launcher; `user`: it is a message for the user.

    `passing`: another attempt may not meet it.
    """

    rank: int
    time: float
    user: bool
    text: str
    passing: bool


def _note_file(folder: Path, rank: int) -> Path:
    return folder / f"failed-{rank}.json"


def _ending(code: int) -> str:
    if code >= 0:
        return f"it left with exit code {code}"
    hint = ", often for want of memory" if code == -signal.SIGKILL else ""
    return f"it was ended by {signal.Signals(-code).name}{hint}"


def _environment(folder: Path, i: int, processes: int, node: Node) -> dict[str, str]:
    ours = {
        RANK: str(node.number * processes + i),
        LOCAL_RANK: str(node.local * processes + i),
        PROCESSES: str(node.count * processes),
        RENDEZVOUS: str(folder / "rendezvous"),
    }
    if node.host:
        ours[MEETING] = f"{node.host}:{node.port}"
    # All talk inside one machine: its host name may not lead to it, the loopback always does.
    inside = node.count == 1 and sys.platform == "linux"
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if inside else {}
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit():  # of the whole job
        ours["OMP_NUM_THREADS"] = str(max(1, int(threads) // processes))
    return {**loopback, **os.environ, **ours}


@contextmanager
def reporting_to_launcher() -> Iterator[None]:
    """In a started process: end with the launcher, and leave a note of what went wrong."""
    Thread(target=_end_with_launcher, daemon=True).start()
    try:
        yield
    except StoppedForResumeError:
        raise
    except Exception as error:
        _leave_note(error)
        raise


def fail_at_once(error: Exception) -> None:
    """End this process, whatever its other threads wait for; its launcher tells the error."""
    _leave_note(error)
    os._exit(1)


def _leave_note(error: Exception) -> None:
    rank, _ = this_rank() or (0, 1)
    user = isinstance(error, UserError)
    text = str(error) if user else f"{type(error).__name__}: {error}"
    note = _Note(rank, time.time(), user, text, may_pass(error))
    write_json(_note_file(Path(os.environ[RENDEZVOUS]).parent, rank), asdict(note))


def _end_with_launcher() -> None:
    """The pipe ends when the launcher dies, by kill -9 too; its lock is gone then."""
    os.read(0, 1)
    os._exit(1)

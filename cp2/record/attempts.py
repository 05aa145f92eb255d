"""attempts.jsonl: every attempt at a run, one line at its start and one at its end."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from cp2.errors import UserError, may_pass
from cp2.record.files import parse_json
from cp2.record.lines import append_line
from cp2.record.readers import read_object
from cp2.record.tail import last_metrics
from cp2.redaction import plain_urls

FILE = "attempts.jsonl"
Outcome = Literal["done", "saved", "failed"]
ERROR_LENGTH = 500  # characters kept of a message


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt; times are seconds since 1970 by the clock of its machine.

    Attributes:
        number: 1 for the first attempt.
        job: the scheduler's job, if any.
        processes: processes that worked on the run together.
        ended, outcome: None while it runs, and for ever where it was killed.
        step: steps done at its end, as far as is known.
        error: last line of the message it failed with.
        final: it failed for what another attempt would meet again, until the user mends it.
    """

    number: int
    started: float
    host: str
    pid: int
    job: str | None
    device: str
    processes: int
    ended: float | None = None
    outcome: Outcome | None = None
    step: int | None = None
    error: str | None = None
    final: bool = False


def read_attempts(folder: Path) -> list[AttemptRecord]:
    """A run's attempts, the latest last; lines cut off by a kill or a full disk are left out, and
    none are known where the file may not be read.
    """
    found: dict[int, AttemptRecord] = {}
    for line in _lines(folder / FILE):
        try:
            _read(line, found)
        except (KeyError, OverflowError, TypeError, ValueError):
            continue
    return list(found.values())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for text in texts:
        try:
            line = parse_json(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line


def _read(line: dict[str, Any], found: dict[int, AttemptRecord]) -> None:
    number = int(line["attempt"])
    if line["event"] == "started":
        found[number] = AttemptRecord(
            number,
            _time(line["time"]),
            str(line["host"]),
            int(line["pid"]),
            None if line["job"] is None else str(line["job"]),
            str(line["device"]),
            int(line["processes"]),
        )
    elif line["event"] == "ended" and line["outcome"] in get_args(Outcome):
        step, error = line["step"], line["error"]
        found[number] = replace(
            found[number],
            ended=_time(line["time"]),
            outcome=line["outcome"],
            step=None if step is None else int(step),
            error=None if error is None else str(error),
            final=line.get("final") is True,
        )


def _time(value: Any) -> float:
    seconds = float(value)
    if not 0 <= seconds < 1e11:  # also no infinity: it fits no database and no calendar
        raise ValueError(f"no time: {value!r}")
    return seconds


@contextmanager
def recorded(
    folder: Path,
    device: str,
    processes: int = 1,
    saved: type[BaseException] | tuple[type[BaseException], ...] = (),
) -> Iterator[None]:
    """Record what happens inside as one attempt; the caller holds the run's lock.

    Args:
        folder: the run's.
        device: "cpu" or the GPU's name.
        processes: how many work on the run together.
        saved: exceptions that mean "saved, start me again", as Ctrl-C does; their `step`, if any,
            is kept.
    Raises:
        UserError: the disk is full at the start. At the end that is only said.
    """
    attempts = read_attempts(folder)
    number = attempts[-1].number + 1 if attempts else 1
    started = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "device": device,
        "processes": processes,
    }
    _append(folder, "started", number, started)
    try:
        yield
    except BaseException as error:
        kinds = saved if isinstance(saved, tuple) else (saved,)
        again = isinstance(error, (KeyboardInterrupt, *kinds))
        outcome: Outcome = "saved" if again else "failed"
        step = getattr(error, "step", None)
        _end(folder, number, outcome, step, error)
        raise
    _end(folder, number, "done", None)


def _end(
    folder: Path, number: int, outcome: str, step: int | None, error: BaseException | None = None
) -> None:
    step = last_step(folder) if step is None else step
    ended: dict[str, Any] = {"outcome": outcome, "step": step, "error": None}
    if error is not None:
        ended |= {"error": last_line(error), "final": not may_pass(error)}
    try:
        _append(folder, "ended", number, ended)
    except (OSError, UserError) as problem:  # must not hide how the attempt ended
        print(f"the end of this attempt could not be recorded: {problem}")


def _append(folder: Path, event: str, number: int, values: dict[str, Any]) -> None:
    line = {"event": event, "attempt": number, "time": round(time.time(), 3), **values}
    append_line(folder / FILE, json.dumps(line))


def last_line(error: BaseException) -> str:
    """The last line of an exception's message, with its kind where the message is no sentence."""
    lines = plain_urls(str(error)).strip().splitlines()
    kind = type(error).__name__
    if not lines:
        return kind
    text = lines[-1] if isinstance(error, UserError) else f"{kind}: {lines[-1]}"
    return text[:ERROR_LENGTH]


def last_step(folder: Path) -> int | None:
    """Steps done, by done.json or the last line of metrics.jsonl; None where there are no steps."""
    done = folder / "done.json"
    if done.is_file():
        steps = read_object(done).get("steps")
        return steps if isinstance(steps, int) else None
    last = last_metrics(folder / "metrics.jsonl")
    return int(last["step"]) if last else None

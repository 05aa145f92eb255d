"""metrics.jsonl: one JSON object a line, {"step": int, "time": seconds, name: number, ...}.

A line that a kill cut off is left out by every reader; other lines that are no such object, or that
hold something else than numbers and nulls, are damaged.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from cp2.errors import UserError
from cp2.record.files import parse_json, write_text
from cp2.record.lines import LineWriter, last_lines

COLLAPSED = 0.1  # of the deviation of healthy features, 1
_END_OF_TIME = 1e11  # seconds since 1970; beyond it, milliseconds fit no database


class MetricsWriter:
    """Appends to metrics.jsonl and never leaves two lines for one step.

    Args:
        path: the file.
        resume_step: lines after this step were written by an attempt whose state was not saved;
            they are dropped, so that the file ends as if that attempt had stopped at its save.
        waiting: lines that had no room when that state was saved; those that never got it follow.
    """

    def __init__(self, path: Path, resume_step: int = 0, waiting: Sequence[str] = ()) -> None:
        self.path = path
        self._lines = LineWriter(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() or waiting:
            kept = [line for line in read_metrics(path) if line["step"] <= resume_step]
            known = {line["step"] for line in kept}
            kept += [line for line in map(json.loads, waiting) if line["step"] not in known]
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; numbers that are not finite are written as null.

        On a full disk the line waits in memory and comes with a later one.
        """
        line: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
        line |= {k: v if math.isfinite(v) else None for k, v in values.items()}
        self._lines.write(json.dumps(line))

    @property
    def waiting(self) -> list[str]:
        """Lines that wait for room; they belong into a saved state."""
        return self._lines.waiting

    def flush(self) -> None:
        """Write what waited for room.

        Raises:
            UserError: there is still none.
        """
        if not self._lines.flush():
            raise UserError(
                f"{self.path}: no space left on the disk for the metrics; free some and start the "
                "same command again: it goes on from the last saved state"
            )


def collapse(line: Mapping[str, Any]) -> str:
    """A warning where a line says that all images have nearly the same features; else nothing."""
    deviation = line.get("health/deviation")
    if not isinstance(deviation, int | float) or not deviation < COLLAPSED:
        return ""
    return (
        f"features collapse: deviation {deviation:.3f}, 1 is healthy, 0 means that all images look "
        "alike; see docs/probes.md"
    )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines, also those of damaged values; other damaged ones are left out."""
    return read_metrics_and_damage(path)[0]


def read_metrics_and_damage(path: Path) -> tuple[list[dict[str, Any]], str | None]:
    """All whole lines, and what is wrong with the others or with the values of some."""
    try:
        *texts, last = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], None
    except OSError as error:
        return [], f"{path}: cannot be read ({error.strerror})"
    found = [_parse(text) for text in texts]
    lines = [line for line in (*found, _parse(last)) if line is not None]
    return lines, _damage(path, sum(map(_is_damaged, found, texts)))


def last_metrics(path: Path) -> dict[str, Any] | None:
    """The last whole line, read without reading all of the file; None where there is none."""
    found = (_parse(text.encode()) for text in reversed(last_lines(path)))
    return next((line for line in found if line is not None), None)


class LogPosition(NamedTuple):
    """A place between two lines, up to which a file was read.

    Attributes:
        first: time of the file's first line: the same as long as attempts resume the run.
        step: of the line before the place; -1: none.
        offset: bytes before the place; 0: not known.
        text: the line before the place.
    """

    first: float | None = None
    step: int = -1
    offset: int = 0
    text: bytes = b""


START = LogPosition()


class LogLine(NamedTuple):
    """A line, and the place after it."""

    values: dict[str, Any]
    end: LogPosition


@dataclass(frozen=True)
class NewLines:
    """Lines after a position, of ever higher steps.

    Attributes:
        restarted: the file tells of another training from its first step: all its lines are new.
        problem: what is wrong with the damaged ones.
    """

    lines: list[LogLine]
    restarted: bool = False
    problem: str | None = None


def read_new_lines(path: Path, position: LogPosition = START) -> NewLines:
    """Lines of steps after the position's; what stands before it is read only where it must be.

    A resumed attempt writes steps again that the file lost with its last save: those up to the
    position's are passed over. A line without a time is damaged, too.
    """
    try:
        with path.open("rb") as file:
            begin = position.offset if _stands(file, position) else 0
            file.seek(begin)
            content = file.read()
    except OSError:
        return NewLines([])
    lines, damaged = _lines(content, position if begin else START)
    first = lines[0].end.first if lines else None
    restarted = None not in (first, position.first) and first != position.first
    if not restarted:
        lines = [line for line in lines if line.end.step > position.step]
    return NewLines(lines, restarted, _damage(path, damaged))


def _stands(file: IO[bytes], position: LogPosition) -> bool:
    """Whether the position's line is still before it: the file was only added to."""
    if not position.text:
        return False
    file.seek(position.offset - len(position.text) - 1)
    return file.read(len(position.text) + 1) == position.text + b"\n"


def _lines(content: bytes, position: LogPosition) -> tuple[list[LogLine], int]:
    """Lines of ever higher steps in what follows a position, and how many are damaged."""
    first, step, offset, _ = position
    lines = []
    damaged = 0
    for text in content.split(b"\n")[:-1]:
        offset += len(text) + 1
        line = _parse(text)
        if line is not None and not _is_time(line.get("time")):
            line = None
        damaged += _is_damaged(line, text)
        if line is not None and line["step"] > step:
            step = line["step"]
            first = line["time"] if first is None else first
            lines.append(LogLine(line, LogPosition(first, step, offset, text)))
    return lines, damaged


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _END_OF_TIME


def _damage(path: Path, lines: int) -> str | None:
    """The sentence about so many damaged lines."""
    return f"{path}: {lines} damaged line{'s' * (lines > 1)} passed over" if lines else None


def _parse(text: bytes) -> dict[str, Any] | None:
    """A line with its step, or None. Its values may be of any kind."""
    try:
        line = parse_json(text)
    except ValueError:
        return None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return None
    return line if 0 <= line["step"] < 1 << 53 else None


def _is_damaged(line: dict[str, Any] | None, text: bytes) -> bool:
    """Whether a text that is not empty gave no line, or one with other than numbers and nulls."""
    if line is None:
        return bool(text.strip())
    return any(value is not None and type(value) not in (int, float) for value in line.values())

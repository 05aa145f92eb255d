"""The end of metrics.jsonl: its last line, and the lines that came since it was last read."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from cp2.record.lines import last_lines
from cp2.record.metrics import damage, is_damaged, parse_line

_END_OF_TIME = 1e11  # seconds since 1970; beyond it, milliseconds fit no database


def last_metrics(path: Path) -> dict[str, Any] | None:
    """The last whole line, read without reading all of the file; None where there is none."""
    found = (parse_line(text.encode()) for text in reversed(last_lines(path)))
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
    return NewLines(lines, restarted, damage(path, damaged))


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
        line = parse_line(text)
        if line is not None and not _is_time(line.get("time")):
            line = None
        damaged += is_damaged(line, text)
        if line is not None and line["step"] > step:
            step = line["step"]
            first = line["time"] if first is None else first
            lines.append(LogLine(line, LogPosition(first, step, offset, text)))
    return lines, damaged


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _END_OF_TIME

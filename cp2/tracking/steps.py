"""New lines of a metrics.jsonl, without reading again what was read before."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cp2.record.metrics import is_damaged, parse_line

_END_OF_TIME = 1e11  # seconds since 1970; beyond it, milliseconds fit no database


@dataclass(frozen=True)
class Bookmark:
    """How far a metrics.jsonl was read.

    Attributes:
        first: time of the file's first line: the same as long as attempts go on from a save.
        step: the highest step that was read; -1: none.
        offset: bytes up to the end of `line`, the last that was read, and its newline.
    """

    first: float | None = None
    step: int = -1
    offset: int = 0
    line: str = ""


@dataclass(frozen=True)
class News:
    """Lines after a bookmark, in the order of their steps, and the next bookmark.

    Attributes:
        restarted: the file now tells of another training from the first step on, so that all of its
            lines are new.
        damaged: how many of the lines that were read are none, or have values that are no numbers.
    """

    lines: list[dict[str, Any]]
    bookmark: Bookmark
    restarted: bool = False
    damaged: int = 0


def read_news(path: Path, mark: Bookmark) -> News:
    """Lines of steps after the bookmark's.

    A resumed attempt writes steps again that the file lost with its last save: they were read, so
    they are passed over. A line that is being written waits; one cut off by a kill is left out.
    """
    try:
        with path.open("rb") as file:
            if mark.line and _stands(file, mark):
                file.seek(mark.offset)
                return _news(file.read(), mark.offset, mark)
            file.seek(0)
            content = file.read()
    except OSError:
        return News([], mark)
    whole = _news(content, 0, Bookmark())
    first = whole.bookmark.first
    if mark.first is None or first == mark.first:
        lines = [line for line in whole.lines if line["step"] > mark.step]
        step = max(mark.step, whole.bookmark.step)
        end = whole.bookmark
        mark = Bookmark(end.first or mark.first, step, end.offset, end.line)
        return News(lines, mark, damaged=whole.damaged)
    if first is None:  # emptied: the lines of the next attempt will tell
        return News([], mark, damaged=whole.damaged)
    return News(whole.lines, whole.bookmark, True, whole.damaged)


def _stands(file: Any, mark: Bookmark) -> bool:
    """Whether the file still has the bookmark's line at its place: it was only added to."""
    line = mark.line.encode() + b"\n"
    file.seek(mark.offset - len(line))
    return bool(file.read(len(line)) == line)


def _news(content: bytes, begin: int, mark: Bookmark) -> News:
    first, step, offset, last = mark.first, mark.step, mark.offset, mark.line
    lines: dict[int, dict[str, Any]] = {}
    damaged = 0
    for text in content.split(b"\n")[:-1]:
        begin += len(text) + 1
        line = _parsed(text)
        damaged += is_damaged(line, text)
        if line is None:
            continue
        offset, last = begin, text.decode()
        first = line["time"] if first is None else first
        if line["step"] > mark.step:
            lines[line["step"]] = line
            step = max(step, line["step"])
    mark = Bookmark(first, step, offset, last)
    return News([lines[key] for key in sorted(lines)], mark, damaged=damaged)


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A line with a step and a time that is one."""
    line = parse_line(text)
    time = line.get("time") if line else None
    if isinstance(time, bool) or not isinstance(time, int | float):
        return None
    return line if 0 <= time < _END_OF_TIME else None

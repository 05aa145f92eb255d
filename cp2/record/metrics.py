"""metrics.jsonl: one JSON object a line, {"step": int, "time": seconds, name: number, ...}.

A line that a kill cut off is left out by every reader; other lines that are no such object, or that
hold something else than numbers and nulls, are damaged.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cp2.errors import UserError
from cp2.record.files import parse_json, write_text
from cp2.record.lines import LineWriter

COLLAPSED = 0.1  # of the deviation of healthy features, 1


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
    found = [parse_line(text) for text in texts]
    lines = [line for line in (*found, parse_line(last)) if line is not None]
    return lines, damage(path, sum(map(is_damaged, found, texts)))


def damage(path: Path, lines: int) -> str | None:
    """The sentence about so many damaged lines."""
    return f"{path}: {lines} damaged line{'s' * (lines > 1)} passed over" if lines else None


def parse_line(text: bytes) -> dict[str, Any] | None:
    """A line with its step, or None. Its values may be of any kind."""
    try:
        line = parse_json(text)
    except ValueError:
        return None
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return None
    return line if 0 <= line["step"] < 1 << 53 else None


def is_damaged(line: dict[str, Any] | None, text: bytes) -> bool:
    """Whether a text that is not empty gave no line, or one with other than numbers and nulls."""
    if line is None:
        return bool(text.strip())
    return any(value is not None and type(value) not in (int, float) for value in line.values())

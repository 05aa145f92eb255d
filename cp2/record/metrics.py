"""metrics.jsonl: one JSON object a line, {"step": int, "time": seconds, name: number, ...}."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cp2.record.files import append_line, write_text


class MetricsWriter:
    """Appends to metrics.jsonl and never leaves two lines for one step.

    Args:
        path: the file.
        resume_step: lines after this step were written by an attempt whose state was not saved;
            they are dropped, so that the file ends as if that attempt had stopped at its save.
    """

    def __init__(self, path: Path, resume_step: int = 0) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            kept = [line for line in read_metrics(path) if line["step"] <= resume_step]
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; numbers that are not finite are written as null."""
        line: dict[str, Any] = {"step": step, "time": round(time.time(), 3)}
        line |= {k: v if math.isfinite(v) else None for k, v in values.items()}
        append_line(self.path, json.dumps(line))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last line cut off by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines

"""Attempts at a training that stop early, and what of their metrics does not depend on the hour."""

from pathlib import Path
from typing import Any

from cp2.record.metrics import read_metrics
from cp2.training.clock import Deadline


class StopAfter(Deadline):
    """Asks to stop when so many steps (or images, or batches) of this attempt are done.

    Args:
        steps: None: never.
        error: raised in place of asking.
    """

    def __init__(self, steps: int | None, error: type[BaseException] | None = None) -> None:
        super().__init__()
        self.left, self.error = steps, error

    def reason(self) -> str | None:
        if self.left is None:
            return None
        self.left -= 1
        if self.left <= 0 and self.error:
            raise self.error
        return "the test says so" if self.left <= 0 else None


def timeless_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, as far as another machine would write them."""
    times = ("time", "samples_per_second", "data_wait", "host_memory_gb")
    return [{k: v for k, v in line.items() if k not in times} for line in read_metrics(path)]

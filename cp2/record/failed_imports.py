"""Imports into MLflow that a store refused, counted so that Snakemake asks again."""

import time
from pathlib import Path

from cp2.record.files import append_line

FILE = "logs/track.failed"  # in the campaign's folder of reports; a line each


def count_failed(reports: Path) -> int:
    """How many imports failed so far."""
    path = reports / FILE
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def add_failed(reports: Path) -> None:
    """One more."""
    (reports / FILE).parent.mkdir(parents=True, exist_ok=True)
    append_line(reports / FILE, time.strftime("%Y-%m-%d %H:%M:%S"))

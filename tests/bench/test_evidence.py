"""The evidence's table has every seed, mean and spread, and its figure what the table has."""

import re
from pathlib import Path

import pandas as pd

from benchmarks.evidence import COLUMNS, draw, to_markdown

ROWS = [
    ["evidence_methods", "random init", 0, 0, "linear", 4.4, "a", "x"],
    ["evidence_methods", "CP2", 1, 2, "linear", 6.0, "b", "x"],
    ["evidence_methods", "CP2", 0, 2, "linear", 5.0, "c", "x"],
    ["evidence_methods", "CP2", 0, 1, "nearest", 3.0, "c", "x"],
]
FOUND = pd.DataFrame(ROWS, columns=COLUMNS)


def test_every_seed_stands_beside_mean_and_deviation() -> None:
    assert to_markdown(FOUND).splitlines()[2:] == [
        "| random init | 0 | 4.40 | 4.40 (1) | - | - |",
        "| CP2 | 2 | 5.00, 6.00 | 5.50 ± 0.71 (2) | - | - |",
        "| CP2 | 1 | - | - | 3.00 | 3.00 (1) |",
    ]


def test_what_nothing_was_measured_by_has_no_column() -> None:
    lines = to_markdown(FOUND[FOUND["measure"] == "linear"]).splitlines()
    assert lines[:2] == ["| row | epochs | linear: each seed | mean |", "|---|---|---|---|"]


def test_the_figure_has_a_panel_a_measure(tmp_path: Path) -> None:
    draw(FOUND, tmp_path, "e")
    words = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "e.svg").read_text())
    assert {"methods: linear", "methods: nearest"} <= set(words)
    assert words.count("random init") == 1
    assert words.count("CP2") == 2

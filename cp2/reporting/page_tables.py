"""A table as the page's templates show it: cells, sort keys, footnotes, provenance."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from cp2.errors import WrongFile
from cp2.plan.graph import Plan
from cp2.plan.recipes import EvaluateRecipe
from cp2.record.mlflow_links import MlflowLinks
from cp2.record.readers import read_scores
from cp2.reporting.claims.contrasts import Measured, difference
from cp2.reporting.formats import (
    footnotes,
    gap_text,
    notes,
    ours_text,
    published_header,
    spread_text,
)
from cp2.reporting.provenance import RunRecord, chain, remake_command
from cp2.reporting.recipes import Flat, cell_settings, differences
from cp2.reporting.tables import TableView
from cp2.settings.load import Configuration
from cp2.settings.tables import Column, Row
from cp2.tables.frame import CellScores
from cp2.tables.published import PUBLISHED_STD

WITHIN, FAR = 2.0, 5.0  # published standard deviations
GAP_LEGEND = (
    "Gap: ours minus published, in points. ≈ within two published standard deviations "
    f"(of the cell, else of its data set, else {PUBLISHED_STD} points), ▲ above or ▼ below by "
    "two to five, ▲▲ or ▼▼ by more."
)


@dataclass(frozen=True)
class Aligned:
    """A number cut at its decimal point: "75" and ".4 ± 0.2 (5)"."""

    head: str
    rest: str


@dataclass(frozen=True)
class Gap:
    """How far ours is from the published number.

    Attributes:
        text: in points, with its sign.
        mark: the class as a sign, so that colour is never the only one.
        kind: the class as a word for style sheets: near, above, far-above, below, far-below.
    """

    text: str
    mark: str
    kind: str

    @property
    def words(self) -> str:
        """The class for screen readers."""
        return self.kind.replace("-", " ")


@dataclass(frozen=True)
class Sources:
    """What provenance is told from."""

    configuration: Configuration
    plan: Plan
    records: dict[str, RunRecord]
    published: dict[tuple[str, str, str], Flat]
    mlflow: MlflowLinks


def shown_numbers(view: TableView) -> dict[str, Any]:
    """What the template of one table needs."""
    letters, anchors = footnotes(view), _anchors(view)
    has_gap = view.has_published and view.at_paper_scale
    return {
        "name": view.name,
        "title": view.settings.title,
        "source": view.settings.source,
        "protocol": view.protocol,
        "columns": [_column(view, column) for column in view.columns],
        "width": 1 + view.has_published + has_gap,
        "has_published": view.has_published,
        "has_gap": has_gap,
        "published_header": published_header(view),
        "rows": [
            {
                "name": row.name,
                "extra": row.extra,
                "cells": [
                    _cell(view.cells[row.name, column.name], letters)
                    | {"anchor": anchors[row.name, column.name]}
                    for column in view.columns
                ],
            }
            for row in view.rows
        ],
        "notes": notes(view) + ([GAP_LEGEND] if has_gap else []),
        "footnotes": [(letter, text) for text, letter in letters.items()],
        "overview": _overview(view),
    }


def shown_provenance(sources: Sources, view: TableView) -> list[dict[str, Any]]:
    """What the template of a table's provenance needs: an entry a cell that has runs."""
    anchors = _anchors(view)
    return [
        _provenance(sources, view, above, row, column) | {"anchor": anchors[row.name, column.name]}
        for above, row in zip((None, *view.rows), view.rows, strict=False)
        for column in view.columns
        if view.cells[row.name, column.name].runs
    ]


def _anchors(view: TableView) -> dict[tuple[str, str], str]:
    """(row, column) -> an address within the page: cp2_fcn-cp2-200-voc2012."""
    found: dict[tuple[str, str], str] = {}
    times: Counter[str] = Counter()
    for row, column in view.cells:
        plain = f"{view.name}-{_slug(row)}-{_slug(column)}"
        times[plain] += 1
        # No slug has a dot.
        found[row, column] = plain if times[plain] == 1 else f"{plain}.{times[plain]}"
    return found


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _column(view: TableView, column: Column) -> dict[str, Any]:
    """Name, and the width of what stands behind the decimal points, in characters."""
    cells = [view.cells[row.name, column.name] for row in view.rows]
    return {
        "name": column.name,
        "ours_rest": _longest([_ours(cell) for cell in cells]),
        "published_rest": _longest([aligned(cell.printed) for cell in cells]),
    }


def _longest(numbers: list[Aligned]) -> int:
    return max((len(number.rest) for number in numbers), default=0)


def _ours(cell: CellScores) -> Aligned:
    return aligned(ours_text(cell)) if cell.mean is not None else Aligned(ours_text(cell), "")


def aligned(text: str) -> Aligned:
    """The text cut before its first decimal point, which only numbers have."""
    head, point, rest = text.partition(".")
    return Aligned(head, point + rest) if head.lstrip("+−-").isdigit() else Aligned(text, "")


def gap_of(cell: CellScores) -> Gap | None:
    """The gap in classes by the published spread; None where no gap is defined."""
    if cell.gap is None:
        return None
    size = abs(cell.gap) / (cell.published_spread or PUBLISHED_STD)
    if size <= WITHIN:
        return Gap(gap_text(cell), "≈", "near")
    side, arrow = ("above", "▲") if cell.gap > 0 else ("below", "▼")
    if size <= FAR:
        return Gap(gap_text(cell), arrow, side)
    return Gap(gap_text(cell), 2 * arrow, f"far-{side}")


def _cell(cell: CellScores, letters: dict[str, str]) -> dict[str, Any]:
    return {
        "ours": _ours(cell),
        "value": cell.mean,
        "missing": cell.mean is None,
        "partial": cell.mean is not None and bool(cell.missing),
        "has_runs": bool(cell.runs),
        "mark": letters.get(cell.footnote),
        "published": aligned(cell.printed),
        "published_value": cell.published,
        "gap": gap_of(cell),
        "gap_value": cell.gap,
    }


def _provenance(
    sources: Sources, view: TableView, above: Row | None, row: Row, column: Column
) -> dict[str, Any]:
    plan, cell = sources.plan, view.cells[row.name, column.name]
    settings = cell_settings(plan, cell.runs)
    paper = sources.published.get((view.name, row.name, column.name))
    before = view.cells[above.name, column.name].runs if above else ()
    return {
        "row": row.name,
        "column": column.name,
        "text": ours_text(cell),
        "command": remake_command(sources.configuration, [plan.runs[run] for run in cell.runs]),
        "above": above.name if above and before else None,
        "against": list(_against(view, row, column)),
        "classes": _classes(sources, cell),
        "from_above": differences(cell_settings(plan, before), settings) if before else [],
        "from_paper": None if paper is None else differences(paper, settings),
        "runs": [
            {
                "record": sources.records[run],
                "score": _score_text(cell, run),
                "mlflow": sources.mlflow.link(run),
            }
            for run in chain(plan, cell.runs)
        ],
    }


def _against(view: TableView, row: Row, column: Column) -> Iterator[tuple[str, str]]:
    """Every other row that has a number: ours minus its number, within Welch's interval."""
    cell = view.cells[row.name, column.name]
    for one in view.rows:
        found = difference(cell, view.cells[one.name, column.name])
        if one.name != row.name and isinstance(found, Measured):
            ends = [found.value, *((found.low, found.high) if found.error else ())]
            shown = [f"{end:+.{found.digits}f}".replace("-", "−") for end in ends]
            yield one.name, f"{shown[0]} [{', '.join(shown[1:])}]" if shown[1:] else shown[0]


def _classes(sources: Sources, cell: CellScores) -> dict[str, str]:
    """Class -> mean ± sample standard deviation over the runs that are done (their number)."""
    found: dict[str, list[float]] = {}
    for run in map(sources.plan.runs.__getitem__, cell.scores):
        path = run.folder(sources.configuration.results).scores
        if isinstance(run.recipe, EvaluateRecipe) and path.is_file():
            with suppress(WrongFile):  # said where its score is read
                scores = read_scores(path, run.recipe.metrics, run.id)
                for name, share in scores.per_class.items():
                    found.setdefault(name, []).extend([] if share is None else [100 * share])
    return {
        name: spread_text(
            mean(values), stdev(values) if len(values) > 1 else None, 1, f"{len(values)}"
        )
        if values
        else "—"
        for name, values in found.items()
    }


def _score_text(cell: CellScores, run: str) -> str | None:
    """A run's own score, with a digit more than the mean."""
    return f"{cell.scores[run]:.{cell.digits + 1}f}" if run in cell.scores else None


def _overview(view: TableView) -> dict[str, Any]:
    """How much of the table is there, and how its gaps are spread over the classes."""
    cells = list(view.cells.values())
    gaps = [gap for cell in cells if (gap := gap_of(cell))]
    return {
        "done": sum(not cell.missing for cell in cells),
        "partial": sum(bool(cell.missing) and cell.n > 0 for cell in cells),
        "never": sum(bool(cell.reason) for cell in cells),
        "cells": len(cells),
        "gaps": {
            word: sum(gap.kind.endswith(word) for gap in gaps)
            for word in ("near", "above", "below")
        },
    }

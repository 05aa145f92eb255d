"""`cp2 show`: one run as text."""

import time
from collections.abc import Iterator

from cp2.plan.graph import Plan, Run
from cp2.plan.places import Places
from cp2.plan.progress.status import run_status
from cp2.plan.text import columns, size
from cp2.reporting.provenance import remake_command
from cp2.reporting.recipes import (
    Difference,
    cell_settings,
    differences,
    published_settings,
    recipe_text,
)
from cp2.settings.load import Configuration
from cp2.stages import TRACKED

_ROWS = 12  # of the lists; what is left is counted


def show(configuration: Configuration, plan: Plan, run: Run) -> str:
    """State, files, tables, needs, command, difference from the paper's settings, settings."""
    results = configuration.results
    status = run_status(run, plan, results, time.time())
    words = (status.state, status.error or status.holder)
    facts = [("state", ": ".join(word for word in words if word))]
    facts += [("folder", str(run.folder(results).path))]
    for path in run.outputs(results).values():
        if path.is_file():
            facts.append(("file", f"{path.name}, {size(path.stat().st_size)}"))
    facts += _listed("row of", [f"{row.table}: {row.name}" for row in Places(plan).rows[run.key]])
    facts += _listed("needs", run.needs)
    facts += _listed("needed by", plan.dependants[run.key])
    facts += [("command", remake_command(configuration, [run]))]
    parts = ["\n".join([run.key, *columns(facts)])]
    found = _from_the_papers(configuration, plan, run)
    if found is not None:
        rows = [(one.key, one.there, one.here) for one in found]
        parts.append("\n".join(columns([("differs in", "paper", "here"), *rows])))
        if not rows:
            parts[-1] = "differs in nothing from the paper's settings"
    return "\n\n".join([*parts, recipe_text(run).rstrip()])


def _listed(title: str, names: list[str] | tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """One line a name; all but the first without the title."""
    shown = [*names[:_ROWS], *([f"... and {len(names) - _ROWS} more"] if names[_ROWS:] else [])]
    return ((title if place == 0 else "", name) for place, name in enumerate(shown))


def _from_the_papers(configuration: Configuration, plan: Plan, run: Run) -> list[Difference] | None:
    """Its settings beside those of the paper's run in the same cell; None where there is none."""
    if run.stage not in TRACKED:
        return None
    papers = published_settings(configuration)
    for table in plan.tables.values():
        for cell in table.cells:
            there = papers.get((table.name, cell.row, cell.column))
            chain = [one.key for one in plan.ancestors(list(cell.runs[:1]))]
            if there is None or run.key not in chain:
                continue
            later = [plan.runs[key] for key in chain[chain.index(run.key) + 1 :]]
            stage = "earlier " * sum(one.stage == run.stage for one in later) + run.stage
            here = cell_settings(plan, cell.runs)
            return [one for one in differences(there, here) if one.key.startswith(f"{stage}.")]
    return None

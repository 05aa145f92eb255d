"""`cp2 plan`: the graph as text."""

from collections.abc import Iterator

from cp2.plan.graph import Plan, Run
from cp2.plan.text import columns
from cp2.settings.load import Configuration
from cp2.stages import STAGES

_HEADER = ("stage", "run", "needs", "state")


def states(configuration: Configuration, plan: Plan) -> dict[str, str]:
    """State of every run: done, ready (all it needs is done) or blocked."""
    done = {key for key, run in plan.runs.items() if run.is_done(configuration.results)}
    return {
        key: "done" if key in done else "ready" if set(run.needs) <= done else "blocked"
        for key, run in plan.runs.items()
    }


def listing(configuration: Configuration, plan: Plan, stage: str | None = None) -> str:
    """A line a run, then the totals."""
    state = states(configuration, plan)
    runs = sorted(plan.runs.values(), key=lambda run: list(STAGES).index(run.stage))
    shown = [_line(run, state[run.key]) for run in runs if stage in (None, run.stage)]
    return "\n".join([*columns([_HEADER, *shown]), "", *_totals(plan, state)])


def summary(configuration: Configuration, plan: Plan) -> str:
    """A line a row of each table: cells, and runs that the row needs; then the totals."""
    state = states(configuration, plan)
    parts = []
    for table in plan.tables.values():
        lines: list[tuple[str, ...]] = [(table.name, "cells", "missing", "runs", "done")]
        for row in dict.fromkeys(cell.row for cell in table.cells):
            cells = [cell for cell in table.cells if cell.row == row]
            runs = plan.ancestors([key for cell in cells for key in cell.runs])
            counts = (
                len(cells),
                sum(cell.missing is not None for cell in cells),
                len(runs),
                sum(state[run.key] == "done" for run in runs),
            )
            lines.append((f"  {row}", *map(str, counts)))
        parts.append("\n".join(columns(lines, right=range(1, 5))))
    if plan.pretrainings:
        lines = [("pretrainings", "state"), *((key, state[key]) for key in plan.pretrainings)]
        parts.append("\n".join(columns(lines)))
    more = "cp2 plan --runs lists the runs, cp2 show <run id> one of them"
    return "\n\n".join([*parts, "\n".join([*_totals(plan, state), more])])


def _totals(plan: Plan, state: dict[str, str]) -> Iterator[str]:
    counts = {word: list(state.values()).count(word) for word in ("done", "ready", "blocked")}
    yield f"{len(plan.runs)} runs: " + ", ".join(f"{n} {word}" for word, n in counts.items())
    yield (
        f"sharing saved {plan.requested - len(plan.runs)} of {plan.requested} runs "
        "(cells that need the same run share it)"
    )
    for table in plan.tables.values():
        missing = [cell for cell in table.cells if cell.missing]
        if missing:
            rows = ", ".join(dict.fromkeys(cell.row for cell in missing))
            yield f"{table.name}: {len(missing)} cells cannot be made: {rows}"


def _line(run: Run, state: str) -> tuple[str, str, str, str]:
    return run.stage, run.id, ", ".join(run.needs) or "-", state

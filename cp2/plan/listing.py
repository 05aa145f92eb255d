"""`cp2 plan`: the graph as text."""

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
    """A line a run, then counts and what sharing saved."""
    state = states(configuration, plan)
    runs = sorted(plan.runs.values(), key=lambda run: list(STAGES).index(run.stage))
    shown = [_line(run, state[run.key]) for run in runs if stage in (None, run.stage)]
    lines = columns([_HEADER, *shown])
    counts = {word: list(state.values()).count(word) for word in ("done", "ready", "blocked")}
    lines += [
        "",
        f"{len(plan.runs)} runs: " + ", ".join(f"{n} {word}" for word, n in counts.items()),
        f"sharing saved {plan.requested - len(plan.runs)} of {plan.requested} runs "
        "(cells that need the same run share it)",
    ]
    for table in plan.tables.values():
        missing = [cell for cell in table.cells if cell.missing]
        if missing:
            rows = ", ".join(dict.fromkeys(cell.row for cell in missing))
            lines.append(f"{table.name}: {len(missing)} cells cannot be made: {rows}")
    return "\n".join(lines)


def _line(run: Run, state: str) -> tuple[str, str, str, str]:
    return run.stage, run.id, ", ".join(run.needs) or "-", state

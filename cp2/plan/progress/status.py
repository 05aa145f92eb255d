"""How far a campaign is, from the files that its runs write; nothing is asked of a scheduler."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cp2.plan.graph import Cell, Plan, Run
from cp2.plan.steps import Steps, steps_of
from cp2.record.attempts import AttemptRecord, read_attempts
from cp2.record.metrics import collapse
from cp2.record.readers import number
from cp2.record.tail import last_metrics

State = Literal["done", "running", "waiting", "failed"]
STATES: tuple[State, ...] = ("done", "running", "waiting", "failed")
KILLED = (
    "it ended without a word: killed (out of memory?) or its node was lost; started again, it goes "
    "on from what it had saved"
)


@dataclass(frozen=True)
class RunStatus:
    """One run.

    Attributes:
        step, steps: logged so far and in the whole run; None where the stage logs no steps.
        rate: samples a second by the last logged line.
        eta: seconds left at this rate.
        age: seconds since that line was written, never negative.
        holder: who works on it.
        error: last line of the last attempt's error.
        log: what to read about a failed run.
        warning: what the last logged line gives reason to worry about.
    """

    key: str
    state: State
    step: int | None = None
    steps: int | None = None
    rate: float | None = None
    eta: float | None = None
    age: float | None = None
    holder: str | None = None
    error: str | None = None
    log: Path | None = None
    warning: str = ""

    @property
    def share(self) -> float | None:
        """Share of the steps that is done, 0..1."""
        if self.step is None or not self.steps:
            return None
        return min(1.0, self.step / self.steps)


@dataclass(frozen=True)
class CellStatus:
    """One cell: the state of each of its evaluate runs together with all that it needs.

    Attributes:
        runs: how many evaluate runs are in which state.
        working: runs that are worked on for this cell.
        missing: why the cell has no runs.
    """

    row: str
    column: str
    runs: Counter[State]
    working: tuple[RunStatus, ...] = ()
    missing: str | None = None

    @property
    def state(self) -> str:
        if self.missing:
            return "missing"
        if self.runs["done"] == self.runs.total():
            return "done"
        return next((word for word in ("failed", "running") if self.runs[word]), "waiting")


@dataclass(frozen=True)
class CampaignStatus:
    """All runs and cells of a plan at one moment.

    Attributes:
        time: seconds since 1970.
        tables: name -> cells in row-major order.
    """

    time: float
    runs: dict[str, RunStatus]
    tables: dict[str, tuple[CellStatus, ...]]


def campaign_status(
    plan: Plan, results: Path, tables: Sequence[str] | None = None
) -> CampaignStatus:
    """Look at the files of every run.

    Args:
        tables: look at these tables and what they need; None takes all.
    """
    now = time.time()
    names = list(plan.tables) if tables is None else tables
    wanted = plan.runs
    if tables is not None:
        keys = [key for name in names for key in plan.tables[name].runs]
        wanted = {run.key: run for run in plan.ancestors(keys)}
    runs = {key: run_status(run, plan, results, now) for key, run in wanted.items()}
    cells = {
        name: tuple(_cell(cell, plan, runs) for cell in plan.tables[name].cells) for name in names
    }
    return CampaignStatus(now, runs, cells)


def run_status(run: Run, plan: Plan, results: Path, now: float) -> RunStatus:
    """The state of one run; `now` is in seconds since 1970."""
    folder = run.folder(results)
    if run.is_done(results):
        last = last_metrics(folder.metrics) if run.stage == "pretrain" else None
        return RunStatus(run.key, "done", warning=collapse(last or {}))
    if not folder.path.is_dir():
        return RunStatus(run.key, "waiting")
    attempts = read_attempts(folder.path)
    held = folder.holder()
    if held is not None:
        return _progress(run, plan, results, now, "running", str(held.owner))
    if not attempts or attempts[-1].outcome in ("saved", "done"):
        return _progress(run, plan, results, now, "waiting", None)
    return RunStatus(
        run.key,
        "failed",
        step=attempts[-1].step,
        error=_error(attempts[-1]),
        log=_log(run, results),
    )


def _progress(
    run: Run, plan: Plan, results: Path, now: float, state: State, holder: str | None
) -> RunStatus:
    line = last_metrics(run.folder(results).metrics)
    if line is None:
        return RunStatus(run.key, state, holder=holder)
    steps = steps_of(run, plan, results)
    written, rate = (_not_negative(line.get(name)) for name in ("time", "samples_per_second"))
    return RunStatus(
        run.key,
        state,
        step=line["step"],
        steps=steps.count if steps else None,
        rate=rate,
        eta=_eta(line["step"], steps, rate),
        age=None if written is None else max(0.0, now - written),
        holder=holder,
        warning=collapse(line),
    )


def _eta(step: int, steps: Steps | None, rate: float | None) -> float | None:
    if steps is None or steps.count is None or not rate:
        return None
    return max(0, steps.count - step) * steps.batch_size / rate


def _not_negative(value: Any) -> float | None:
    found = number(value)
    return None if found is None or found < 0 else found


def _error(attempt: AttemptRecord) -> str:
    if attempt.outcome is None:
        return KILLED
    return attempt.error or "no message"


def _log(run: Run, results: Path) -> Path | None:
    """The job's whole output, or else what the run itself wrote down."""
    folder = run.folder(results)
    found = (path for path in (folder.path / "job.log", folder.log) if path.is_file())
    return next(found, None)


def _cell(cell: Cell, plan: Plan, runs: dict[str, RunStatus]) -> CellStatus:
    if cell.missing:
        return CellStatus(cell.row, cell.column, Counter(), missing=cell.missing)
    counts: Counter[State] = Counter()
    working: dict[str, RunStatus] = {}
    for key in cell.runs:
        chain = [runs[run.key] for run in plan.ancestors([key])]
        counts[_state(runs[key], chain)] += 1
        working |= {run.key: run for run in chain if run.state == "running"}
    return CellStatus(cell.row, cell.column, counts, tuple(working.values()))


def _state(own: RunStatus, chain: list[RunStatus]) -> State:
    """An evaluate run fails with whatever it needs, and runs while that runs."""
    if own.state == "done":
        return "done"
    found = {run.state for run in chain}
    return "failed" if "failed" in found else "running" if "running" in found else "waiting"

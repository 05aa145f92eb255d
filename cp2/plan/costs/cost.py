"""What a campaign costs before it runs: device-hours of every run, less what is done."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cp2.plan.costs.table import Throughput, read_throughput
from cp2.plan.costs.work import Kind, Work, work_of
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import EvaluateRecipe, FinetuneRecipe
from cp2.plan.requests import JobRequest
from cp2.record.metrics import last_metrics
from cp2.settings.throughput import ThroughputRow

COSTED = ("masks", "pretrain", "finetune", "evaluate")  # the other stages need no GPU


@dataclass(frozen=True)
class RunCost:
    """One run.

    Attributes:
        hours: hours of one device for the whole run; 0 for stages that need none, None: unknown.
        done: share of the run that is done, 0..1; of an unfinished one by its last logged step.
        unknown: why `hours` is None.
    """

    hours: float | None
    done: float
    row: ThroughputRow | None = None
    unknown: str | None = None

    @property
    def left(self) -> float | None:
        """Device-hours still to spend; nothing is left of a done run of unknown cost."""
        if self.done >= 1:
            return 0.0
        return None if self.hours is None else self.hours * (1 - self.done)


@dataclass(frozen=True)
class Costs:
    """The costs of all runs of a plan.

    Attributes:
        runs: key of a run -> its cost.
        requests: stage -> what one of its jobs asks for.
    """

    plan: Plan
    throughput: Throughput
    runs: dict[str, RunCost]
    requests: dict[str, JobRequest]

    def total(self, keys: Iterable[str] | None = None) -> float:
        """Device-hours of whole runs, as far as known."""
        return sum(self.runs[key].hours or 0.0 for key in self._keys(keys))

    def left(self, keys: Iterable[str] | None = None) -> float:
        """Device-hours still to spend, as far as known."""
        return sum(self.runs[key].left or 0.0 for key in self._keys(keys))

    def unknown(self, keys: Iterable[str] | None = None) -> list[str]:
        """Keys of runs that are not done and whose cost is unknown."""
        return [key for key in self._keys(keys) if self.runs[key].left is None]

    def jobs(self, key: str) -> int:
        """Times that a run is submitted until it is done: its time limit ends a job, and the
        next goes on from the state. 0 for a done run, at least 1 for one of unknown cost."""
        cost, request = self.runs[key], self.requests[self.plan.runs[key].stage]
        if cost.done >= 1:
            return 0
        minutes = 60 * (cost.left or 0.0) / max(1, request.gpus)
        return max(1, math.ceil(minutes / request.minutes))

    @cached_property
    def unshared(self) -> float:
        """Device-hours if no two cells shared a run, as far as known."""
        cells = (cell for table in self.plan.tables.values() for cell in table.cells)
        return sum(
            self.total(run.key for run in self.plan.ancestors(list(cell.runs))) for cell in cells
        )

    def _keys(self, keys: Iterable[str] | None) -> Iterable[str]:
        return self.runs if keys is None else keys


def cost_plan(
    plan: Plan,
    results: Path,
    table: Path,
    request: Callable[[str], JobRequest],
    device: str | None = None,
) -> Costs:
    """Cost of every run.

    Args:
        table: throughput table.
        request: stage -> what its jobs ask for.
        device: one of the table's; None takes the one that knows most of this plan's work.
    Raises:
        UserError: the throughput table cannot be used.
    """
    works = {key: work_of(run, plan, results) for key, run in plan.runs.items()}
    found = [work for work in works.values() if work]
    throughput = read_throughput(table, found, device)
    runs = {key: _cost(run, works[key], throughput, results) for key, run in plan.runs.items()}
    stages = {run.stage for run in plan.runs.values()}
    return Costs(plan, throughput, runs, {stage: request(stage) for stage in stages})


def kinds(costs: Costs, results: Path) -> dict[Kind, ThroughputRow | None]:
    """Each kind of work that is not done, and the row that its cost rests on."""
    found: dict[Kind, ThroughputRow | None] = {}
    for key, cost in costs.runs.items():
        work = work_of(costs.plan.runs[key], costs.plan, results)
        if work and cost.done < 1:
            found[work.kind] = cost.row
    return found


def _cost(run: Run, work: Work | None, throughput: Throughput, results: Path) -> RunCost:
    done = 1.0 if run.is_done(results) else 0.0
    if work is None:
        if isinstance(run.recipe, FinetuneRecipe | EvaluateRecipe):
            kind = run.recipe.protocol
            return RunCost(None, done, None, f"no samples are known for protocols of kind {kind}")
        return RunCost(0.0, done)
    row = throughput.row(work)
    if work.steps is None:
        dataset = run.need("dataset")
        return RunCost(None, done, row, f"the number of images of {dataset} is not known yet")
    if done < 1:
        done = part_done(run, work.steps, results)
    if row is None:
        return RunCost(None, done, None, _no_row(work, throughput))
    return RunCost(work.steps * work.batch_size / row.samples_per_second / 3600, done, row)


def _no_row(work: Work, throughput: Throughput) -> str:
    reason = f"no row for {work.kind}"
    if work.gflop is None and throughput.rate(work):
        return (
            f"{reason}, and no channels and gflop in the settings of backbone {work.kind.backbone}"
        )
    return reason


def part_done(run: Run, steps: int, results: Path) -> float:
    """Share of an unfinished run, by the last line of its metrics; below 1."""
    last = last_metrics(run.folder(results).metrics)
    return min(last["step"] / max(1, steps), 0.999) if last else 0.0

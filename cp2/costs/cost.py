"""What a campaign costs before it runs: device-hours of every run, less what is done; how long
it takes on so many devices."""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cp2.costs.table import SHIPPED, Throughput, read_throughput
from cp2.costs.work import Kind, Work, work_of
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import EvaluateRecipe, FinetuneRecipe
from cp2.plan.requests import JobRequest, job_request
from cp2.record.tail import last_metrics
from cp2.settings.campaign import Resources
from cp2.settings.load import Configuration
from cp2.settings.sites import load_site
from cp2.settings.throughput import ThroughputRow


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
        works: key of a run -> its work; None for runs that train and score nothing.
        runs: key of a run -> its cost.
        requests: stage -> what one of its jobs asks for.
    """

    plan: Plan
    throughput: Throughput
    works: dict[str, Work | None]
    runs: dict[str, RunCost]
    requests: dict[str, JobRequest]

    def total(self, keys: Iterable[str] | None = None) -> float:
        """Device-hours of whole runs, as far as known."""
        return math.fsum(self.runs[key].hours or 0.0 for key in self._keys(keys))

    def left(self, keys: Iterable[str] | None = None) -> float:
        """Device-hours still to spend, as far as known."""
        return math.fsum(self.runs[key].left or 0.0 for key in self._keys(keys))

    def unknown(self, keys: Iterable[str] | None = None) -> list[str]:
        """Keys of runs that are not done and whose cost is unknown."""
        return [key for key in self._keys(keys) if self.runs[key].left is None]

    def jobs(self, key: str) -> int:
        """Times that a run is submitted until it is done: its time limit ends a job, and the
        next goes on from the state. 0 for a done run, at least 1 for one of unknown cost."""
        cost, request = self.runs[key], self.requests[self.plan.runs[key].stage]
        if cost.done >= 1:
            return 0
        minutes = 60 * (cost.left or 0.0) / request.processes
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


def cost_campaign(
    configuration: Configuration,
    plan: Plan,
    table: Path | None = None,
    device: str | None = None,
    site: str | None = None,
) -> Costs:
    """Cost of every run of a campaign.

    Args:
        table: throughput table; None: the shipped one.
        device: one of the table's; None takes the one that knows most of this plan's work.
        site: whose GPUs and time limits count.

    Raises:
        UserError: the table, the device or the site cannot be used.
    """
    results = configuration.results
    there = load_site(site, configuration.configs) if site else None
    given = configuration.campaign.resources
    works = {key: work_of(run, plan, results) for key, run in plan.runs.items()}
    found = [work for work in works.values() if work]
    throughput = read_throughput(table or configuration.configs / SHIPPED, found, device)
    runs = {key: _cost(run, works[key], throughput, results) for key, run in plan.runs.items()}
    requests = {
        stage: job_request(stage, given.get(stage, Resources()), there)
        for stage in dict.fromkeys(run.stage for run in plan.runs.values())
    }
    return Costs(plan, throughput, works, runs, requests)


def kinds(costs: Costs) -> dict[Kind, ThroughputRow | None]:
    """Each kind of work that is not done, and the row that its cost rests on."""
    found: dict[Kind, ThroughputRow | None] = {}
    for key, cost in costs.runs.items():
        work = costs.works[key]
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
    if work.steps is None or work.samples is None:
        dataset = run.need("dataset")
        return RunCost(None, done, row, f"the number of images of {dataset} is not known yet")
    if done < 1:
        done = part_done(run, work.steps, results)
    if row is None:
        return RunCost(None, done, None, f"no row for {work.kind}")
    return RunCost(work.samples / row.samples_per_second / 3600, done, row)


def part_done(run: Run, steps: int, results: Path) -> float:
    """Share of an unfinished run, by the last line of its metrics; below 1."""
    last = last_metrics(run.folder(results).metrics)
    return min(last["step"] / max(1, steps), 0.999) if last else 0.0


@dataclass(frozen=True)
class Schedule:
    """Hours.

    Attributes:
        hours: until the last run ends.
        chain: length of the longest chain of runs that wait for one another; no number of devices
            is faster.
        last: key of the run at that chain's end.
    """

    hours: float
    chain: float
    last: str


def schedule(costs: Costs, devices: int) -> Schedule | None:
    """List scheduling of what is left: whenever devices are free, the ready run with the longest
    chain behind it starts. A run holds as many devices as its stage asks for (at least one, at
    most all) and is taken to scale with them. Queueing and downloads are left out.

    Returns None where nothing of known cost is left.
    """
    plan = costs.plan
    width = {
        key: min(devices, costs.requests[run.stage].processes) for key, run in plan.runs.items()
    }
    length = {key: (cost.left or 0.0) / width[key] for key, cost in costs.runs.items()}
    below = plan.dependants
    behind: dict[str, float] = {}
    for key in reversed(list(plan.runs)):  # dependants come after what they need
        behind[key] = length[key] + max((behind[k] for k in below[key]), default=0.0)
    first = max(behind, key=lambda key: behind[key], default=None)
    if first is None or behind[first] == 0:
        return None

    waiting = {key: len(run.needs) for key, run in plan.runs.items()}
    ready = [(-behind[key], key) for key, needs in waiting.items() if needs == 0]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []  # (end, key)
    now, free = 0.0, devices
    while ready or running:
        held: list[tuple[float, str]] = []
        while ready:
            item = heapq.heappop(ready)
            key = item[1]
            need = width[key] if length[key] else 0
            if need > free:
                held.append(item)
                continue
            free -= need
            heapq.heappush(running, (now + length[key], key))
        for item in held:
            heapq.heappush(ready, item)
        now, key = heapq.heappop(running)
        free += width[key] if length[key] else 0
        for follower in below[key]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, (-behind[follower], follower))
    end = first
    while below[end]:
        end = max(below[end], key=lambda key: behind[key])
    return Schedule(now, behind[first], end)

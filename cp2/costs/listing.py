"""`cp2 plan --cost` and `--budget`: the costs as text."""

import textwrap
from collections import Counter
from pathlib import Path

from cp2.costs.cost import Costs, kinds, schedule
from cp2.costs.disk import disk_space
from cp2.costs.memory import memory_notes
from cp2.plan.text import columns, duration, hours, size
from cp2.settings.campaign import Execution
from cp2.stages import STAGES


def cost_listing(
    costs: Costs, results: Path, devices: int = 1, execution: Execution | None = None
) -> str:
    """Hours and jobs a stage, wall-clock on so many devices, disk, what sharing saved, and what the
    figures rest on; with `execution` also the memory of GPUs."""
    throughput = costs.throughput
    lines = [
        f"cost on {throughput.device}, by {throughput.path}",
        "",
        *_stages(costs),
        "",
        *_wall_clock(costs, devices),
        *_most_jobs(costs),
        _sharing(costs),
        *_disk(costs),
        *_memory(costs, execution),
        *_unknown(costs),
        "",
        *_sources(costs),
    ]
    return "\n".join(lines)


def _sharing(costs: Costs) -> str:
    wanted = costs.plan.requested
    saved = hours(costs.unshared - costs.total())
    return (
        f"sharing saves {wanted - len(costs.plan.runs)} of {wanted} runs "
        f"and {saved} of {hours(costs.unshared)} {costs.throughput.unit}"
    )


def _stages(costs: Costs) -> list[str]:
    unit = costs.throughput.unit
    rows = [["stage", "runs", "done", "jobs left", unit, f"{unit} left", ""]]
    stages = [stage for stage in STAGES if any(costs.plan.stage(stage))]
    for stage in stages:
        rows.append([stage, *_counts(costs, [run.key for run in costs.plan.stage(stage)], stage)])
    rows.append(["total", *_counts(costs, list(costs.runs), "total")])
    return columns(rows, right=range(1, 6))


def _counts(costs: Costs, keys: list[str], stage: str) -> list[str]:
    done = sum(costs.runs[key].done >= 1 for key in keys)
    jobs = sum(costs.jobs(key) for key in keys)
    counts = [str(len(keys)), str(done), str(jobs)]
    if stage != "total" and not STAGES[stage].on_device:
        return [*counts, "-", "-", "no GPU"]
    unknown = [key for key in keys if costs.runs[key].hours is None]
    known = len(keys) > len(unknown)
    figures = [hours(costs.total(keys)), hours(costs.left(keys))] if known else ["unknown"] * 2
    return [*counts, *figures, f"and {len(unknown)} runs of unknown cost" if unknown else ""]


def _wall_clock(costs: Costs, devices: int) -> list[str]:
    plan = schedule(costs, devices)
    if plan is None:
        return []
    return [
        f"wall-clock on {devices} of these devices: {duration(plan.hours)}, without queueing and "
        "downloads;",
        f"  the longest chain of runs takes {duration(plan.chain)} and ends in {plan.last}",
    ]


def _most_jobs(costs: Costs) -> list[str]:
    """Retries do not limit them: a job that saves before its time limit queues itself again."""
    key = max(costs.runs, key=costs.jobs)
    count = costs.jobs(key)
    if count < 2:
        return []
    minutes = costs.requests[costs.plan.runs[key].stage].minutes
    return [f"most jobs: {key} takes {count} jobs of {duration(minutes / 60)} each, in a row"]


def _disk(costs: Costs) -> list[str]:
    disk = disk_space(costs.plan)
    line = (
        f"disk: {size(disk.models)} of models, up to {size(disk.states)} of resume state a "
        "running job"
    )
    if disk.archives:
        line += f", {size(disk.archives)} of downloads, {size(disk.unpacked)} unpacked"
    if disk.unknown:
        line += f"; unknown: {', '.join(disk.unknown)}"
    return [line]


def _memory(costs: Costs, execution: Execution | None) -> list[str]:
    if execution is None:
        return []
    there = costs.throughput.memory_gb
    return memory_notes(costs.plan, costs.requests, execution, there and 1e9 * there)


def _unknown(costs: Costs) -> list[str]:
    reasons = Counter(costs.runs[key].unknown for key in costs.unknown())
    return [f"cost unknown: {count} runs, {reason}" for reason, count in reasons.items()]


def _sources(costs: Costs) -> list[str]:
    rows = [["what is left to do", "samples/s", "", "source"]]
    for kind, row in kinds(costs).items():
        if row:
            figure = f"{row.samples_per_second:.4g}"
            rows.append([str(kind), figure, row.certainty, row.source])
    if len(rows) == 1:
        return []
    certainties = Counter(row[2] for row in rows[1:])
    sure = ", ".join(f"{count} {word}" for word, count in certainties.items())
    note = costs.throughput.note if set(certainties) != {"measured"} else ""
    text = textwrap.wrap(f"Figures: {sure}. {note}", 100)
    return [*columns(rows, right=(1,)), *text, *_others(costs)]


def _others(costs: Costs) -> list[str]:
    others = costs.throughput.others
    return [f"also in the table: {', '.join(others)} (--device NAME)"] if others else []

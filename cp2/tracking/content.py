"""What MLflow is told of a run: params, tags, metric points and scores, read from its records."""

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from cp2.plan.graph import Plan, Run
from cp2.record.files import read_json
from cp2.record.folder import RunFolder
from cp2.record.metrics import read_metrics

STAGES = ("pretrain", "finetune", "evaluate")
LONGEST_PARAM = 499  # characters; MLflow servers before 2.8 take no more
_SCORES = ("miou", "accuracy", "mean_accuracy")


@dataclass(frozen=True)
class Point:
    """One value of one metric; `time` in seconds since the epoch."""

    name: str
    value: float
    step: int
    time: float


def tables_of(plan: Plan) -> dict[str, str]:
    """Run key -> names of the tables that need the run, separated by ", "."""
    tables: dict[str, list[str]] = defaultdict(list)
    for table in plan.tables.values():
        for run in plan.ancestors(table.runs):
            tables[run.key].append(table.name)
    return {key: ", ".join(tables[key]) for key in plan.runs}


def params(folder: RunFolder) -> dict[str, str]:
    """The recipe as flat keys and texts, cut at `LONGEST_PARAM`; recipe.json has it in full."""
    flat: dict[str, str] = {}
    _flatten("", read_json(folder.recipe)["recipe"], flat)
    return {key: value[:LONGEST_PARAM] for key, value in flat.items()}


def tags(run: Run, folder: RunFolder, tables: str) -> dict[str, str]:
    """How the run is found in MLflow, and where and with what code it was made."""
    found = {"stage": run.stage, "run_id": run.id, **run.tags, "tables": tables}
    if run.seed is not None:
        found["seed"] = str(run.seed)
    if folder.environment.is_file():
        environment = read_json(folder.environment)
        for name in ("git_commit", "git_dirty", "host", "device", "slurm_job", "attempt"):
            if environment.get(name) is not None:
                found[name] = str(environment[name])
    return found


def points_by_step(folder: RunFolder) -> dict[int, list[Point]]:
    """Step -> the points of its line in metrics.jsonl; nulls are left out."""
    steps = {}
    for line in read_metrics(folder.metrics):
        step, time = line["step"], float(line["time"])
        steps[step] = [
            Point(name, float(value), step, time)
            for name, value in line.items()
            if name not in ("step", "time") and isinstance(value, (int, float))
        ]
    return steps


def score_points(run: Run, folder: RunFolder, finished: float) -> list[Point]:
    """Final scores as shares of one: val/<dataset>/miou, ...; empty for other stages."""
    if run.stage != "evaluate":
        return []
    scores = read_json(folder.scores)
    return [
        Point(f"{scores['split']}/{scores['dataset']}/{name}", float(scores[name]), 0, finished)
        for name in _SCORES
        if scores.get(name) is not None
    ]


def _flatten(prefix: str, value: Any, flat: dict[str, str]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{prefix}.{key}" if prefix else str(key), inner, flat)
    else:
        flat[prefix] = value if isinstance(value, str) else json.dumps(value)

"""What MLflow is told of a run: params, tags, metric points and scores, read from its records."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cp2.plan.graph import Run
from cp2.plan.places import Places
from cp2.plan.text import cell_text
from cp2.record.attempts import AttemptRecord
from cp2.record.readers import Scores
from cp2.settings.base import hashed_fields, leaves
from cp2.settings.metrics import Metric

LONGEST_PARAM = 499  # characters; MLflow servers before 2.8 take no more
LONGEST_TAG, LONGEST_NAME = 5000, 250  # MLflow's limits, the first of its older servers
_ENVIRONMENT = ("git_commit", "git_dirty", "host", "device", "slurm_job", "torch")
_SYSTEM = ("samples_per_second", "data_wait", "host_memory_gb", "gpu_memory_gb", "gpu_use")
_LARGEST = 1.7e308  # JSON's integers may be too large for a float
_UNUSUAL = re.compile(r"[^\w.\- :/]", re.ASCII)


class Point(NamedTuple):
    """One value of one metric; `time` in seconds since 1970."""

    name: str
    value: float
    step: int
    time: float


def params(run: Run, settings: dict[str, Any], places: Places) -> dict[str, str]:
    """A recipe's settings as flat keys and texts, cut at `LONGEST_PARAM`; recipe.json has all.

    What was finetuned or scored also has its pretraining's, as `pretrain.method.temperature`, so
    that scores can be compared by them.
    """
    return _allowed(leaves(settings)) | origin_params(run, places)


def origin_params(run: Run, places: Places) -> dict[str, str]:
    """The settings of a run's pretraining, as `pretrain.method.temperature`, ..."""
    origin = places.pretraining_of(run)
    return _allowed(leaves(hashed_fields(origin.recipe), "pretrain")) if origin else {}


def _allowed(found: Iterable[tuple[str, Any]]) -> dict[str, str]:
    texts = ((key, one if isinstance(one, str) else json.dumps(one)) for key, one in found)
    return {safe_name(key): text[:LONGEST_PARAM] for key, text in texts}


def tags(
    run: Run, environment: dict[str, Any], places: Places, attempts: list[AttemptRecord]
) -> dict[str, str]:
    """How the run is found in MLflow, and where and with what code it was made."""
    found = places.tags(run)
    for name in _ENVIRONMENT:
        if environment.get(name) is not None:
            found[name] = str(environment[name])
    found["attempts"] = str(len(attempts))
    found["error"] = (attempts[-1].error or "") if attempts else ""
    return {safe_name(key): value[:LONGEST_TAG] for key, value in found.items()}


def step_points(lines: Iterable[dict[str, Any]]) -> list[Point]:
    """The numbers of lines of metrics.jsonl; nulls are left out. Speed and memory are `system/`."""
    names: dict[str, str] = {}
    points = []
    for line in lines:
        step, time = line["step"], float(line["time"])
        for key, value in line.items():
            if type(value) not in (int, float) or key in ("step", "time"):
                continue
            if key not in names:
                names[key] = f"system/{key}" if key in _SYSTEM else safe_name(key)
            if value - value == 0 and abs(value) < _LARGEST:  # finite
                points.append(Point(names[key], float(value), step, time))
    return points


def score_points(scores: Scores, labels: str, finished: float) -> list[Point]:
    """Final scores as stored: val/<data set>/<metric>; val/<data set>-l0.1/<metric> of a tenth."""
    dataset = scores.dataset + ("" if labels == "1" else f"-l{labels}")
    return [
        Point(safe_name(f"{scores.split}/{dataset}/{name}"), value, 0, finished)
        for name, value in scores.values.items()
    ]


def cost_points(attempts: Sequence[AttemptRecord]) -> list[Point]:
    """Hours of all ended attempts, and of the GPUs that they held; none before the first end."""
    ended = [(a.ended, (a.ended - a.started) / 3600, a) for a in attempts if a.ended is not None]
    if not ended:
        return []
    last = max(time for time, _, _ in ended)
    held = [hours * a.processes for _, hours, a in ended if a.device != "cpu"]
    return [
        Point("cost/hours", sum(hours for _, hours, _ in ended), 0, last),
        Point("cost/gpu_hours", sum(held), 0, last),
    ]


def class_table(scores: Scores, metric: Metric) -> str:
    """A metric of every class as CSV, in per cent; empty for classes that no image has."""
    rows = [("class", metric.name)]
    rows += [(cell_text(name), _percent(value)) for name, value in scores.per_class.items()]
    return "".join(f'"{name.replace(chr(34), chr(34) * 2)}",{value}\n' for name, value in rows)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def safe_name(name: str) -> str:
    """A name that MLflow takes for a param, tag or metric: other characters become "_"."""
    parts = _UNUSUAL.sub("_", name).split("/")
    return "/".join(part for part in parts if part.strip("."))[:LONGEST_NAME] or "_"

"""Runs chosen by their tags."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.plan.places import Places
from cp2.settings.messages import nearest

LOGGED = ("pretrain", "finetune")  # stages that write metrics.jsonl


def choose_runs(places: Places, conditions: Sequence[str]) -> list[Run]:
    """Training runs that meet all conditions.

    Args:
        conditions: "key=value" with any tag of a run as MLflow has it (stage, seed, method, row,
            dataset, variant, ...), or id; `table` and `row` are any that need the run. The value
            may be several with commas between, each with * and ?.
    Raises:
        UserError: a condition is none, its key is unknown, or no run meets it.
    """
    left = [(run, _described(run, places)) for run in places.plan.runs.values() if _logs(run)]
    keys = dict.fromkeys(key for _, tags in left for key in tags)
    for condition in conditions:
        key, equals, wanted = condition.partition("=")
        if not equals or key not in keys:
            raise UserError(
                f"--where {condition!r}: write key=value; "
                + (
                    f"no key {key!r}; {nearest(key, keys)}"
                    if equals
                    else f"keys: {', '.join(keys)}"
                )
            )
        meeting = [(run, tags) for run, tags in left if _meets(tags.get(key, set()), wanted)]
        if not meeting:
            there = sorted({value for _, tags in left for value in tags.get(key, set())})
            raise UserError(
                f"--where {condition!r}: no run of campaign and earlier conditions has that; "
                f"{key} is one of: {', '.join(there[:20])}{' ...' if len(there) > 20 else ''}"
            )
        left = meeting
    return [run for run, _ in left]


def _logs(run: Run) -> bool:
    return run.stage in LOGGED


def _described(run: Run, places: Places) -> dict[str, set[str]]:
    rows = places.rows[run.key]
    tags = {key: {value} for key, value in places.tags(run).items()}
    several = {"table": {row.table for row in rows}, "row": {row.name for row in rows}}
    return {"stage": {run.stage}, "id": {run.id}} | tags | (several if rows else {})


def _meets(values: set[str], wanted: str) -> bool:
    return any(fnmatchcase(value, one) for value in values for one in wanted.split(","))

"""What is known before a job starts of batches, data sets and GPUs that do not go together."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from cp2.plan.graph import Plan, Run
from cp2.plan.protocols.detection import DetectionFinetuneRecipe
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe
from cp2.plan.recipes import PretrainRecipe
from cp2.plan.steps import steps_of
from cp2.settings.campaign import Execution


def misfits(
    runs: Iterable[Run],
    plan: Plan,
    results: Path,
    execution: Execution,
    processes: Mapping[str, int],
) -> list[str]:
    """Why those of some runs that are left to make would be refused by their jobs.

    Args:
        processes: of a job of each stage, one a GPU.
    """
    found: dict[str, list[str]] = {}
    for run in runs:
        reason = _misfit(run, plan, results, execution, processes)
        if reason and not run.is_done(results):
            found.setdefault(reason, []).append(run.key)
    return with_keys(found)


def with_keys(reasons: Mapping[str, list[str]]) -> list[str]:
    """Reasons, each after the first of the runs that have it and the number of the others."""
    return [
        f"{keys[0]}{f' and {len(keys) - 1} more' if keys[1:] else ''}: {reason}"
        for reason, keys in reasons.items()
    ]


def _misfit(
    run: Run, plan: Plan, results: Path, execution: Execution, processes: Mapping[str, int]
) -> str | None:
    match run.recipe:
        case PretrainRecipe(method=method):
            batch, what = method.batch_size, f"method {method.name!r}"
        case (
            SegmentationFinetuneRecipe(optimization=schedule, dataset=dataset)
            | DetectionFinetuneRecipe(training=schedule, dataset=dataset)
        ):
            batch, what = schedule.batch_size, f"the protocol for {dataset!r}"
        case _:
            return None
    steps = steps_of(run, plan, results)
    if steps and steps.count == 0:
        return (
            f"batch_size {batch} of {what} is more than the images of data set "
            f"{run.need('dataset')!r}, so an epoch would have no step; write less, or add images"
        )
    gpus = processes.get(run.stage, 1)
    parts = execution.accumulate.get(run.stage, 1)
    if batch % (gpus * parts):
        return (
            f"batch_size {batch} of {what} cannot be shared evenly by {gpus} GPUs x {parts} "
            f"micro-batches; change gpus or nodes of stage {run.stage} (resources or site file), "
            "execution.accumulate or batch_size"
        )
    return None

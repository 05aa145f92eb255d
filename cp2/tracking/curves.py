"""Curves of all runs as files of TensorBoard or W&B, from the runs' records; nothing is sent."""

import os
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from cp2.errors import UserError
from cp2.plan.graph import Plan, Run
from cp2.record.metrics import read_metrics
from cp2.tracking.content import Point, step_points

# What W&B notes of the process that writes: it is not the one that trained.
_NOT_OF_THE_RUN = {
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_save_requirements": False,
    "disable_git": True,
}


def write_events(plan: Plan, results: Path, folder: Path) -> int:
    """One folder a run, `<folder>/<stage>/<run id>/`, whose event file is written anew.

    Returns:
        How many runs have something logged.
    Raises:
        UserError: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install tensorboard") from None
    count = 0
    for run, points in _logged(plan, results):
        for old in (folder / run.key).glob("events.out.tfevents.*"):
            old.unlink()
        with SummaryWriter(str(folder / run.key)) as writer:
            for name, value, step, seconds in points:
                writer.add_scalar(name, value, step, walltime=seconds)
        count += 1
    return count


def write_wandb(plan: Plan, results: Path, folder: Path, project: str) -> int:
    """One offline run of W&B each, `<folder>/wandb/offline-run-*`, written anew.

    Its id is the run's digest, so that `wandb sync` sends a run once, however often it is written.

    Returns:
        How many runs have something logged.
    Raises:
        UserError: wandb is not installed.
    """
    os.environ |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}  # before the import
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install wandb") from None
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for run, points in _logged(plan, results):
        name = run.digest[:32]
        for old in folder.glob(f"wandb/offline-run-*-{name}"):
            shutil.rmtree(old)
        config = {**run.recipe.model_dump(mode="json"), "seed": run.seed}
        options = {"group": run.stage, "name": run.id, "id": name, "config": config}
        settings = wandb.Settings(mode="offline", console="off", silent=True, **_NOT_OF_THE_RUN)
        with wandb.init(dir=folder, project=project, settings=settings, **options) as writer:
            for step, some in groupby(points, key=lambda point: point.step):
                numbers = list(some)
                values = {point.name: point.value for point in numbers}
                writer.log({**values, "_timestamp": numbers[0].time}, step=step)
        count += 1
    return count


def _logged(plan: Plan, results: Path) -> Iterator[tuple[Run, list[Point]]]:
    """The runs that have something logged."""
    for run in plan.runs.values():
        if points := step_points(read_metrics(run.folder(results).metrics)):
            yield run, points

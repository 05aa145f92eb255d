"""Curves of all runs as TensorBoard's event files, from the runs' records."""

from pathlib import Path

from cp2.errors import UserError
from cp2.plan.graph import Plan
from cp2.record.metrics import read_metrics
from cp2.tracking.content import step_points


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
    for run in plan.runs.values():
        points = step_points(read_metrics(run.folder(results).metrics))
        if not points:
            continue
        for old in (folder / run.key).glob("events.out.tfevents.*"):
            old.unlink()
        with SummaryWriter(str(folder / run.key)) as writer:
            for name, value, step, seconds in points:
                writer.add_scalar(name, value, step, walltime=seconds)
        count += 1
    return count

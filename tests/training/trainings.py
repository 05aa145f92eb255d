"""Trainings on one process, or on two of this machine, several in a row."""

from dataclasses import dataclass
from pathlib import Path

from attempts import StopAfter
from two_processes import meeting, on_two

from cp2.plan.graph import Run
from cp2.protocols.registry import finetune
from cp2.settings.campaign import Execution
from cp2.training.clock import StoppedForResumeError
from cp2.training.pretrain import pretrain


@dataclass(frozen=True)
class Training:
    """One attempt at a run.

    Attributes:
        results: folder of all results.
        asks: rank of the process that asks to stop, after `steps` steps.
    """

    run: Run
    results: Path
    execution: Execution
    steps: int | None = None
    asks: int = 0


def train(training: Training, rank: int = 0) -> None:
    loop = pretrain if training.run.stage == "pretrain" else finetune
    deadline = StopAfter(training.steps if rank == training.asks else None)
    try:
        loop(training.run, training.results, training.execution, deadline)
    except StoppedForResumeError:
        assert training.steps is not None


def train_on_two(trainings: list[Training], folder: Path) -> None:
    """Do all trainings, one after the other, on two processes."""
    on_two(_train_all, folder, trainings)


def _train_all(rank: int, folder: Path, trainings: list[Training]) -> None:
    for number, training in enumerate(trainings):
        with meeting(rank, folder, number):
            train(training, rank)

"""Runs trainings on two processes of this machine (gloo), several in a row."""

import os
from dataclasses import dataclass
from pathlib import Path

from attempts import StopAfter
from torch import multiprocessing

from cp2.plan.graph import Run
from cp2.protocols.registry import finetune
from cp2.settings.campaign import Execution
from cp2.training.clock import StoppedForResumeError
from cp2.training.parallel import joined
from cp2.training.pretrain import pretrain
from cp2.training.processes import PROCESSES, RANK, RENDEZVOUS


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


def on_two(trainings: list[Training], folder: Path) -> None:
    """Do all trainings, one after the other, on two processes."""
    multiprocessing.spawn(_work, args=(trainings, folder), nprocs=2)


def _work(rank: int, trainings: list[Training], folder: Path) -> None:
    os.environ.update({RANK: str(rank), PROCESSES: "2", "GLOO_SOCKET_IFNAME": "lo"})
    for number, training in enumerate(trainings):
        os.environ[RENDEZVOUS] = str(folder / f"rendezvous-{number}")
        with joined():
            train(training, rank)

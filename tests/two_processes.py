"""Work on two processes of this machine, which meet by gloo."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forked import server
from torch import multiprocessing

from cp2.training.parallel import joined
from cp2.training.processes import PROCESSES, RANK, RENDEZVOUS


def on_two(work: Callable[..., None], folder: Path, *arguments: Any) -> None:
    """Call work(rank, folder, *arguments) in two processes.

    It meets the other one by `meeting`, and writes into the folder what the test is to see.
    """
    server()
    given = (dict(os.environ), work, folder, *arguments)
    multiprocessing.start_processes(_start, given, nprocs=2, start_method="forkserver")


def _start(rank: int, environment: dict[str, str], work: Callable[..., None], *given: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    work(rank, *given)


@contextmanager
def meeting(rank: int, folder: Path, number: int = 0) -> Iterator[None]:
    """Joined to the other process; each meeting of a folder has a number of its own."""
    os.environ.update({RANK: str(rank), PROCESSES: "2", "GLOO_SOCKET_IFNAME": "lo"})
    os.environ[RENDEZVOUS] = str(folder / f"rendezvous-{number}")
    with joined(folder):
        yield

"""Batches that processes of their own load."""

import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import util
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from cp2.errors import PassingError, UserError

Batch = TypeVar("Batch")

# What torch says where the machine gives its loading processes too little: what to do.
_NO_SHARED_MEMORY = (
    "the loading processes have too little shared memory (df -h /dev/shm): give a container more "
    "(docker run --shm-size=8g or --ipc=host), or set execution.workers lower"
)
_TROUBLE = {
    "shared memory": _NO_SHARED_MEMORY,
    "Bus error": _NO_SHARED_MEMORY,
    "torch_shm_manager": _NO_SHARED_MEMORY,
    "ancdata": "too many files are open at once: raise the limit (ulimit -n 65536)",
    "Too many open files": "too many files are open at once: raise the limit (ulimit -n 65536)",
    "DataLoader worker (pid": "a loading process was killed, mostly for want of memory: ask for "
    "more (resources.<stage>.mem_mb), or set execution.workers lower",
}


class Batches(Generic[Batch]):
    """Batches of a data set, by PyTorch's DataLoader; its workers' errors arrive as if raised here.

    A request to stop, which a scheduler or a terminal sends to all processes of a job, is left to
    the one that trains: its save needs no workers, but would not come if they were gone.

    Args:
        data: of its samples, or of its batches (`batch_size=None`).
        workers: processes that make them; 0: this one does.
        pin: hand over pinned memory, for a GPU.
        options: of the DataLoader.
    """

    def __init__(
        self, data: "Dataset[Any]", workers: int, pin: bool = False, **options: Any
    ) -> None:
        # Of its own generator: the global one's state must not depend on interruptions.
        options = {"generator": torch.Generator(), "pin_memory": pin, **options}
        if workers:
            options["worker_init_fn"] = _leave_stopping
            _end_workers_with_this_process(os.getpid())
        with _many_workers():
            self._loader: DataLoader[Batch] = DataLoader(data, num_workers=workers, **options)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        try:
            yield from self._started()  # held by no variable: an error would keep its workers
        except UserError as error:
            error.__traceback__ = None  # its frames hold the workers, which end without them
            # The loader wraps the text in the worker's traceback, whose last line is the message.
            text = str(error).rsplit(f"{type(error).__name__}: ", 1)[-1].strip()
            raise type(error)(text) from None
        except (RuntimeError, OSError) as error:
            trouble = next((what for sign, what in _TROUBLE.items() if sign in str(error)), None)
            if trouble is None:
                raise
            error.__traceback__ = None
            kind = PassingError if "was killed" in trouble else UserError  # by a neighbour, say
            raise kind(
                f"{trouble}. With --set campaign.execution.workers=0 the images are loaded without "
                "further processes"
            ) from error

    def _started(self) -> Iterator[Batch]:
        with _many_workers():
            return iter(self._loader)


@contextmanager
def _many_workers() -> Iterator[None]:
    """Around a loader with more workers than cores, which is the user's choice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _leave_stopping(_: int) -> None:
    """In a worker, which ends with its process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@cache
def _end_workers_with_this_process(process: int) -> None:
    """Once a process; before Python, at its end, asks its children to end and waits for them."""
    util.Finalize(None, _end_workers, exitpriority=1)


def _end_workers() -> None:
    """Of loaders that an error's frames still hold; they leave requests to end to this process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # to PyTorch's, any end of a worker is an error
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()

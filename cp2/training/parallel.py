"""One of several training processes: how it joins the others, and what they agree on."""

import inspect
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from cp2.errors import PassingError, UserError
from cp2.models.devices import choose_device
from cp2.models.distributed import rank, world_size
from cp2.training.clock import StoppedForResumeError
from cp2.training.meeting import meet
from cp2.training.processes import LOCAL_RANK, fail_at_once, this_rank
from cp2.training.stalls import StallWatch

CONTROL_TIMEOUT = timedelta(minutes=30)  # a rank may copy a data set's first files for long


@contextmanager
def joined(
    folder: Path,
    stop: Callable[[], str | None] = lambda: None,
    steps: Callable[[], int] = lambda: 0,
) -> Iterator[None]:
    """Inside, this process is one of those that launchers started; alone it does nothing.

    Args:
        folder: the run's.
        stop: why not to wait for the others any longer, if so.
        steps: how far this process has come; where that stays the same, one that hangs is named.
    Raises:
        PassingError: a process does not come or sees other files, or the port is taken.
        UserError: some processes have a GPU, others none.
        StoppedForResumeError: `stop` said so.
    """
    place = this_rank()
    if place is None:
        yield
        return
    number, size = place
    # Said of 1x1 convolutions, whose gradients have two equally good descriptions of one layout.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    device = choose_device()
    if device.type == "cuda":
        local, there = int(os.environ[LOCAL_RANK]), torch.cuda.device_count()
        torch.cuda.set_device(0 if there == 1 else local)  # srun may show each its own only
    store, hosts = meet(number, size, folder, device.type, stop)
    with StallWatch(number, hosts, store, steps, fail_at_once):
        distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=number,
            world_size=size,
            timeout=CONTROL_TIMEOUT,
        )
        distributed.all_reduce(torch.ones(1, device=device))
        try:
            yield
        except StoppedForResumeError:  # all stop at one step
            distributed.destroy_process_group()
            raise
        # Not after an error: others may be waiting in an exchange, and their launcher ends them.
        distributed.destroy_process_group()


class Agreement:
    """Lets all processes act at the same step, without waiting for a GPU.

    What one asks at a step is known to all at the next one; the exchange runs meanwhile.
    """

    GO_ON, SAVE, STOP = range(3)

    def __init__(self) -> None:
        self._alone = world_size() == 1
        self._group: Any = None if self._alone else distributed.new_group(backend="gloo")
        self._asked = torch.tensor(self.GO_ON)
        self._exchange: distributed.Work | None = None

    def on_step(self, step: int, folder: Path) -> None:
        """Make sure that all go on from one saved state.

        Raises:
            PassingError: they do not.
        """
        if self._alone:
            return
        steps = torch.zeros(world_size(), dtype=torch.int64)
        steps[rank()] = step
        distributed.all_reduce(steps, group=self._group)
        if (steps != steps[0]).any():
            raise PassingError(
                f"{folder}: process 0 goes on from step {steps[0]}, but the processes found "
                f"{steps.tolist()}; the results must lie on a file system that all nodes share "
                "(on NFS an old state may be seen for a minute: start again)"
            )

    def exchange(self, wish: int, last: bool = False) -> int:
        """What to do now, given what each process wishes.

        Args:
            last: the run ends with this step, so nothing is asked any more.
        """
        if self._alone:
            return self.GO_ON if last else wish
        answer = self.GO_ON
        if self._exchange is not None:
            self._exchange.wait()
            answer = int(self._asked)
            self._exchange = None
        if not last and answer != self.STOP:
            # A save that is about to happen needs no second one.
            self._ask(self.GO_ON if answer == wish == self.SAVE else wish)
        return self.GO_ON if last else answer

    def _ask(self, wish: int) -> None:
        self._asked = torch.tensor(wish)
        self._exchange = distributed.all_reduce(
            self._asked, distributed.ReduceOp.MAX, self._group, async_op=True
        )


class DataParallel:
    """Runs a module's forward pass so that its gradients become means over the processes."""

    def __init__(self, module: nn.Module) -> None:
        self.call: nn.Module = module
        self._parallel: nn.parallel.DistributedDataParallel | None = None
        if world_size() > 1:
            refuse_random_layers(module)
            self._parallel = nn.parallel.DistributedDataParallel(
                module, gradient_as_bucket_view=True, **_own_buffers()
            )
            self.call = self._parallel

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """Around a micro-batch: only the step's last one exchanges gradients."""
        return nullcontext() if last or self._parallel is None else self._parallel.no_sync()


def _own_buffers() -> dict[str, Any]:
    """Buffers are ours to keep alike; torch 2.14 renamed the option."""
    known = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return {name: False}


def refuse_random_layers(module: nn.Module) -> None:
    """Random layers inside an architecture draw by process, not by sample.

    Raises:
        UserError: names one.
    """
    for name, child in module.named_modules():
        kind = type(child).__name__
        rate = getattr(child, "drop_prob", None) or getattr(child, "p", None)
        if kind in ("Dropout", "DropPath") and isinstance(rate, float) and rate > 0:
            raise UserError(
                f"{name} ({kind}, rate {rate:g}) draws other random numbers on several processes "
                "or in micro-batches; use one process and no --accumulate, or set the rate to 0 in "
                "the backbone's args"
            )


def split(count: int, tree: Any) -> list[Any]:
    """The same tree of tuples and dictionaries with the tensors' parts, one a micro-batch.

    None stays None.
    """
    if tree is None:
        return [None] * count
    if isinstance(tree, Tensor):
        return list(tree.chunk(count))
    if isinstance(tree, dict):
        parts = split(count, tuple(tree.values()))
        return [dict(zip(tree, part, strict=True)) for part in parts]
    rows = zip(*(split(count, child) for child in tree), strict=True)
    make = getattr(tree, "_make", tuple)  # named tuples stay what they are
    return [make(row) for row in rows]

"""The device's share of the input pipeline beside the training step instead of before it."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

Batch = TypeVar("Batch")
Prepared = TypeVar("Prepared", bound="tuple[Tensor | None, ...]")


def prefetch(
    batches: Iterable[Batch], make: Callable[[Batch], Prepared], device: torch.device
) -> Iterator[tuple[Batch, Callable[[], Prepared]]]:
    """Each batch and a function that hands out what `make` makes of it on the device.

    On a GPU the copies and kernels of `make` run on a stream of their own, while the step before
    still runs: ask for the next batch once a step is launched, and for its content right before it
    is used. On a CPU `make` runs when its content is asked for.

    Asking for the content also keeps the host from running ahead: it returns when the device has
    begun the step before. So no more than three batches are in the device's memory, and the device
    still has a step to work on.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch, _later(make, batch)
        return
    side = side_stream(device)
    begun: list[torch.cuda.Event] = []
    stream = iter(batches)
    while True:
        with torch.cuda.stream(side):  # batches may be decoded on the device as they are asked for
            try:
                batch = next(stream)
            except StopIteration:
                return
            prepared = make(batch)
        done = side.record_event()
        yield batch, _handing_out(prepared, done, begun)


@cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """The process' one stream beside its steps: the allocator keeps freed memory by stream."""
    return torch.cuda.Stream(device)


def _later(make: Callable[[Batch], Prepared], batch: Batch) -> Callable[[], Prepared]:
    return lambda: make(batch)


def _handing_out(
    prepared: Prepared, done: torch.cuda.Event, begun: list[torch.cuda.Event]
) -> Callable[[], Prepared]:
    def content() -> Prepared:
        main = torch.cuda.current_stream()
        main.wait_event(done)
        for tensor in prepared:
            if tensor is not None:  # made on the side stream: its memory is free after this step
                tensor.record_stream(main)
        begun.append(main.record_event())
        if len(begun) > 1:
            begun.pop(0).synchronize()
        return prepared

    return content

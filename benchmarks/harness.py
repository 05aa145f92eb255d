"""Variants of the same work, timed in turn each round: a busy machine slows all of them alike."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch

from benchmarks.machine import device_peak_mib, host_mib, reset_device_peak, traced_peak_mib
from cp2.errors import UserError
from cp2.training.clock import Deadline

OVER = "the timed steps are done"
# "relative": ours, too, but work of its own that nothing published or limiting here stands for
Role = Literal["published", "ours", "relative", "limit"]


@dataclass(frozen=True)
class Timing:
    """What one round of one variant showed.

    Attributes:
        samples: of all timed steps.
        seconds: from the end of the warm-up to the end of the last step, on the device, too.
        steps: seconds of each timed step; on a GPU between events on its stream.
        waited: seconds of them spent waiting for data; None where there is nothing to wait for.
        device_mib: most memory that tensors held on the GPU; None on a CPU (see `tensor_peaks`).
        host_mib: memory of this process and its workers at the end; None where unknown.
    """

    samples: int
    seconds: float
    steps: tuple[float, ...]
    waited: float | None
    device_mib: float | None
    host_mib: float | None

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds


class Stopwatch(Deadline):
    """Times steps after a warm-up, and says when enough are timed.

    It is a deadline, so that the project's own loops can be measured as they are: they ask for a
    `reason` to stop after each step. Others call `lap` after each step while not `over`.

    Args:
        warmup: untimed steps first, one at least: compilation, autotuning, full prefetch queues.
        steps: timed steps, at least so many.
        samples: of each step.
        seconds: the timed steps last at least so long.
        trace: started before the first timed step and stopped after the last.
    """

    def __init__(
        self,
        warmup: int,
        steps: int,
        samples: int,
        device: torch.device,
        seconds: float = 0.0,
        trace: torch.profiler.profile | None = None,
    ) -> None:
        super().__init__()
        self.warmup, self.steps, self.samples, self.device = warmup, steps, samples, device
        self._seconds, self._trace = seconds, trace
        self._laps = 0
        self._begin = self._end = 0.0
        self._marks: list[float] = []
        self._events: list[torch.cuda.Event] = []
        self._waited: float | None = None
        self._memory: tuple[float | None, float | None] = (None, None)
        self.over = False

    def lap(self) -> None:
        """One step is done."""
        self._laps += 1
        if self._laps < self.warmup:
            return
        if self._laps == self.warmup:
            self._synchronize()
            reset_device_peak(self.device)
            self._waited = None if self._waited is None else 0.0
            if self._trace:
                self._trace.start()
            self._begin = time.perf_counter()
        self._mark()
        timed = self._laps - self.warmup
        if timed >= self.steps and time.perf_counter() - self._begin >= self._seconds:
            self._stop()

    def reason(self) -> str | None:
        """For the project's loops: counts a step, and says why to stop once enough are timed."""
        self.lap()
        return OVER if self.over else None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around fetching a batch."""
        begin = time.perf_counter()
        yield
        self.set_waited((self._waited or 0.0) + time.perf_counter() - begin)

    def set_waited(self, seconds: float) -> None:
        """Set the data wait of the timed steps, where somebody else measured it."""
        self._waited = seconds

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Around work that cannot be cut into steps: it counts as one, without a warm-up."""
        self._synchronize()
        reset_device_peak(self.device)
        self._begin = time.perf_counter()
        self._mark()
        yield
        self._mark()
        self._stop()

    def timing(self) -> Timing:
        """What was measured.

        Raises:
            UserError: the work ended before enough steps were timed.
        """
        if not self.over:
            raise UserError(f"only {self._laps} of {self.warmup + self.steps} steps came")
        marks = [self._events[0].elapsed_time(e) / 1000 for e in self._events] or self._marks
        steps = tuple(after - before for before, after in pairwise(marks))
        return Timing(
            self.samples * len(steps), self._end - self._begin, steps, self._waited, *self._memory
        )

    def _mark(self) -> None:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._events.append(event)
        else:
            self._marks.append(time.perf_counter())

    def _stop(self) -> None:
        self._synchronize()
        self._end = time.perf_counter()
        if self._trace:
            self._trace.stop()
        self._memory = (device_peak_mib(self.device), host_mib())
        self.over = True

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Variant:
    """One way of doing the work.

    Attributes:
        run: works until the stopwatch is over; builds what it needs and lets go of it each time.
        samples: of each step.
        role: what it stands for in the table.
        precision: what it computes in: "off" (float32), "bf16", "fp16"; None: nothing to say.
        limit: name of the variant that is the limit of this one; None: the benchmark's.
        flops: arithmetic of a sample; None: nothing to say.
    """

    name: str
    run: Callable[[Stopwatch], None]
    samples: int
    role: Role
    warmup: int = 3
    steps: int = 10
    seconds: float = 0.0
    precision: str | None = None
    limit: str | None = None
    flops: float | None = None


Timings = dict[str, list[Timing]]


def alternate(
    variants: Sequence[Variant],
    rounds: int,
    device: torch.device,
    say: Callable[[str], None],
    one_size: bool = True,
) -> Timings:
    """Time every variant once in each round; `one_size` as in `to_device`.

    Raises:
        UserError: fewer than one round, or the GPU's memory does not do.
    """
    if rounds < 1:
        raise UserError(f"{rounds} rounds; one is the least, three give a spread")
    timings: Timings = {variant.name: [] for variant in variants}
    for number in range(1, rounds + 1):
        for variant in variants:
            torch.backends.cudnn.benchmark = one_size  # scoring sets it, too
            timing = _time(variant, device)
            timings[variant.name].append(timing)
            say(
                f"round {number}/{rounds}  {variant.name:<28}"
                f"{timing.samples_per_second:>10.1f} samples/s"
            )
    return timings


def tensor_peaks(variants: Sequence[Variant], device: torch.device) -> dict[str, float]:
    """Most memory in MiB that tensors held in each variant on a CPU, by one more run of two steps.

    That run is traced, so it is not timed. Nothing on a GPU, whose allocator keeps count itself.
    """
    if device.type != "cpu":
        return {}
    peaks = {}
    for variant in variants:
        gc.collect()
        watch = Stopwatch(1, 1, variant.samples, device)
        peaks[variant.name] = traced_peak_mib(partial(variant.run, watch))
    return peaks


def _time(variant: Variant, device: torch.device) -> Timing:
    gc.collect()  # what the last variant held
    if device.type == "cuda":
        torch.cuda.empty_cache()
    watch = Stopwatch(variant.warmup, variant.steps, variant.samples, device, variant.seconds)
    try:
        variant.run(watch)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{variant.name} does not fit into the GPU's memory ({error}); lower --batch"
        ) from None
    return watch.timing()

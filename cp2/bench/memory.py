"""Memory of tensors, and of this process with its workers."""

import json
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

MIB = 2**20


def reset_device_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def device_peak_mib(device: torch.device) -> float | None:
    """Most memory that tensors held since the reset; None on a CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / MIB


def traced_peak_mib(work: Callable[[], object]) -> float:
    """Most memory that tensors held on the CPU while `work` ran, as far as it made them.

    What `max_memory_allocated` says on a GPU: PyTorch's allocator reports each block to the
    profiler. Scratch space inside kernels is not seen there either.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it speaks of the GPU that is not there
    with (
        warnings.catch_warnings(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace,
    ):
        warnings.filterwarnings("ignore", "Warning: Profiler clears events")  # there is one cycle
        work()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    return peak_of_events(events) / MIB


def peak_of_events(events: list[dict[str, Any]]) -> int:
    """Most bytes that were allocated at once, by a trace's `[memory]` events.

    Blocks that are freed without having been allocated in the trace do not count.
    """
    changes = [event for event in events if event.get("name") == "[memory]"]
    held: dict[int, int] = {}
    total = most = 0
    for event in sorted(changes, key=lambda event: float(event["ts"])):
        size, place = event["args"]["Bytes"], event["args"]["Addr"]
        if size > 0:
            held[place] = size
            total += size
        else:
            total -= held.pop(place, 0)
        most = max(most, total)
    return most


def host_mib() -> float | None:
    """Memory of this process and its living workers; None where the system does not say.

    Proportional set sizes, so that what forked workers share is counted once.
    """
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    sizes = [_kib(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids]
    known = [size for size in sizes if size is not None]
    return sum(known) / 1024 if known else None


def worker_rss_mib() -> float | None:
    """Resident memory of the living workers; None where the system does not say."""
    workers = multiprocessing.active_children()
    sizes = [_kib(f"/proc/{worker.pid}/status", "VmRSS:") for worker in workers]
    known = [size for size in sizes if size is not None]
    return sum(known) / 1024 if known else None


def _kib(file: str, key: str) -> int | None:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:  # another system, or the worker is gone
        return None
    for line in lines:
        if line.startswith(key):
            return int(line.split()[1])
    return None

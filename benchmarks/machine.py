"""The machine that is measured on: what it is, its rate of matrix products, its memory."""

import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from cp2.costs.measure import CORES, processor
from cp2.models.devices import device_name
from cp2.record.environment import describe_environment

MIB = 2**20
GPU_SIZE, CPU_SIZE = 8192, 1024  # sides of the matrices
DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
VERSIONS = ("git_commit", "git_dirty", "python", "torch", "torchvision", "timm", "numpy", "pillow")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Device, processor, driver and versions; no name of the host, no paths."""
    environment = describe_environment(device_name(device))
    return {
        "device": device_name(device),
        "driver": _driver() if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cpu": processor(),
        "cores": CORES,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),  # above the cores: others used this machine, too
        **{key: environment[key] for key in VERSIONS},
    }


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None


def matmul_peaks(device: torch.device, amp: str) -> dict[str, float]:
    """The peak of float32, and of `amp` where it is another precision."""
    return {name: matmul_peak(device, name) for name in dict.fromkeys(("off", amp))}


def matmul_peak(device: torch.device, precision: str, size: int | None = None) -> float:
    """Floating point operations a second of one large matrix product, median of five.

    Args:
        precision: as in the settings' `amp`: "off" is float32 (for convolutions PyTorch's default
            is TF32 on GPUs that have it, so it is allowed here, too), "bf16", "fp16".
    """
    size = size or (GPU_SIZE if device.type == "cuda" else CPU_SIZE)
    a, b = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        seconds = [_seconds(lambda: a @ b, device) for _ in range(6)][1:]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * size**3 / statistics.median(seconds)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


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
        size, address = event["args"]["Bytes"], event["args"]["Addr"]
        if size > 0:
            held[address] = size
            total += size
        else:
            total -= held.pop(address, 0)
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

"""What a bench writes: its figures with the machine and the versions that they are true of."""

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

from cp2.bench.sizes import CORES, Sizes
from cp2.models.devices import device_name
from cp2.record.environment import describe_environment
from cp2.record.files import read_json, write_json

_KEPT = ("git_commit", "git_dirty", "python", "torch", "torchvision", "timm", "numpy", "pillow")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Device, processor, driver and versions; no name of the host, no paths."""
    environment = describe_environment(device_name(device))
    return {
        "device": device_name(device),
        "driver": _driver() if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cpu": _processor(),
        "cores": CORES,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),  # above the cores: others used this machine, too
        **{key: environment[key] for key in _KEPT},
    }


def write_figures(target: Path, bench: str, figures: dict[str, Any]) -> Path:
    """Put one bench's figures into a file beside those of the other benches.

    Args:
        target: the file; or a folder, where the file is named after the device.
        figures: must hold `machine` and may hold `throughput`: rows {stage, method, backbone,
            head, crop_size, batch_size, device, samples_per_second, ...} for `cp2 plan --cost`.

    Returns:
        The file: {"benches": {bench: figures}, "throughput": [rows of all benches]}.
    """
    path = _named_after(figures["machine"], target)
    benches = read_json(path)["benches"] if path.exists() else {}
    benches[bench] = {"throughput": []} | figures
    rows = [row for one in benches.values() for row in one.get("throughput", [])]
    write_json(path, {"benches": benches, "throughput": rows})
    return path


def results_file(target: Path, device: torch.device) -> Path:
    """The file that `write_figures` will write for this device."""
    return _named_after({"device": device_name(device), "cpu": _processor()}, target)


def _named_after(machine: dict[str, Any], target: Path) -> Path:
    if target.is_dir() or target.suffix != ".json":
        return target / f"{slug(machine)}.json"
    return target


def slug(machine: dict[str, Any]) -> str:
    """A file name for a machine: the GPU's, or the processor's."""
    name = machine["device"] if machine["device"] != "cpu" else f"cpu-{machine['cpu']}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None


def _processor() -> str:
    return f"{_cpu()}, {CORES} cores"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def throughput_row(
    stage: str,
    sizes: Sizes,
    rate: float,
    machine: dict[str, Any],
    method: str | None = None,
    crop_size: int | tuple[int, int] | None = None,
    output_stride: int = 16,
    flops: float | None = None,
) -> dict[str, Any]:
    """A row of a throughput table (`cp2.settings.throughput`), measured by `cp2 bench`.

    Args:
        rate: samples a second.
        flops: of a sample, by which `cp2 plan --cost` estimates other work of the stage.
    """
    device = machine["device"] if machine["device"] != "cpu" else f"cpu ({machine['cpu']})"
    return {
        "stage": stage,
        "method": method,
        "backbone": sizes.backbone,
        "head": sizes.head,
        "crop_size": crop_size or sizes.crop,
        "batch_size": sizes.batch,
        "amp": "off" if stage == "evaluate" else sizes.amp,  # evaluations have no other
        "output_stride": output_stride,
        "gflop": flops and flops / 1e9,
        "device": device,
        "samples_per_second": rate,
        "source": f"cp2 bench {stage}, commit {(machine['git_commit'] or 'unknown')[:8]}",
    }

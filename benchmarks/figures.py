"""Figures of the variants: computed from their timings, printed as a table, written to a file."""

import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Timing, Variant
from benchmarks.machine import describe_machine
from benchmarks.sizes import Sizes
from cp2.costs.measure import processor
from cp2.costs.work_folder import WorkFolder
from cp2.errors import UserError
from cp2.models.devices import choose_device, device_name
from cp2.record.files import read_json, write_json

Figures = dict[str, Any]
Say = Callable[[str], None]


def assemble(
    sizes: Sizes,
    work: WorkFolder,
    variants: Sequence[Variant],
    timings: dict[str, list[Timing]],
    device: torch.device,
    peaks: dict[str, float],
    memory: dict[str, float] | None = None,
) -> Figures:
    """What a benchmark hands out: what was measured, on what, and by whom.

    Args:
        peaks, memory: see `summarize`.
    """
    return {
        "images": work.description,
        "sizes": asdict(sizes),
        "peak_tflops": {name: peak / 1e12 for name, peak in peaks.items()},
        "variants": summarize(variants, timings, peaks, memory),
        "machine": describe_machine(device),
    }


def summarize(
    variants: Sequence[Variant],
    timings: dict[str, list[Timing]],
    peaks: dict[str, float] | None = None,
    memory: dict[str, float] | None = None,
) -> Figures:
    """Figures of each variant: medians over its timings, with the spread.

    Args:
        peaks: measured floating point operations a second by precision.
        memory: most MiB that tensors held in each variant, where the timings do not say (on a CPU).

    Returns:
        By variant: `samples_per_second` {median, min, max, rounds}, `step_ms` {p50, p95} over all
        steps, `data_wait`, `tensor_mib`, `host_mib`, `ratio` to the published recipe,
        `share_of_limit`, `gflop_per_sample` and `mfu`; None where there is nothing to say.
    """
    medians = {
        variant.name: statistics.median(t.samples_per_second for t in timings[variant.name])
        for variant in variants
    }
    published = next(
        (medians[variant.name] for variant in variants if variant.role == "published"), None
    )
    limit = next((variant.name for variant in variants if variant.role == "limit"), None)
    figures: Figures = {}
    for variant in variants:
        rate = medians[variant.name]
        above = variant.limit or limit
        peak = (peaks or {}).get(variant.precision or "")
        found = _of_timings(timings[variant.name])
        if found["tensor_mib"] is None:
            found["tensor_mib"] = (memory or {}).get(variant.name)
        figures[variant.name] = {
            "role": variant.role,
            "precision": variant.precision,
            **found,
            "ratio": rate / published if published and variant.role == "ours" else None,
            "share_of_limit": rate / medians[above] if above and variant.role != "limit" else None,
            "gflop_per_sample": variant.flops / 1e9 if variant.flops else None,
            "mfu": rate * variant.flops / peak if variant.flops and peak else None,
        }
    return figures


def _of_timings(timings: Sequence[Timing]) -> Figures:
    rates = [timing.samples_per_second for timing in timings]
    steps = sorted(1000 * second for timing in timings for second in timing.steps)
    waits = [timing.waited / timing.seconds for timing in timings if timing.waited is not None]
    return {
        "samples_per_second": {
            "median": statistics.median(rates),
            "min": min(rates),
            "max": max(rates),
            "rounds": rates,
        },
        "step_ms": {"p50": percentile(steps, 0.5), "p95": percentile(steps, 0.95)},
        "data_wait": statistics.median(waits) if waits else None,
        "tensor_mib": _largest(timing.device_mib for timing in timings),
        "host_mib": _largest(timing.host_mib for timing in timings),
    }


def _largest(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    return ascending[max(0, -(-int(share * 1000) * len(ascending) // 1000) - 1)]


def print_table(figures: Figures, say: Say) -> None:
    """What was measured on what, then one line a variant."""
    machine, sizes = figures["machine"], figures.get("sizes", {})
    say("")
    say(f"{machine['device']}; {machine['cpu']}; torch {machine['torch']}; {figures['images']}")
    if machine["load"] > machine["cores"]:
        say(f"load {machine['load']}: others used this machine; trust ratios, not rates")
    if sizes:
        say("  ".join(f"{name} {value}" for name, value in sizes.items()))
    if "peak_tflops" in figures:
        peaks = ", ".join(
            f"{peak:.3g} ({'float32' if name == 'off' else name})"
            for name, peak in figures["peak_tflops"].items()
        )
        say(f"matrix products, TFLOP/s: {peaks}")
    say(_HEADER)
    for name, variant in figures["variants"].items():
        say(_line(name, variant))


_HEADER = (
    f"{'variant':<30}{'samples/s':>10}{'(min - max)':>20}{'x publ.':>9}{'% limit':>9}{'wait %':>8}"
    f"{'step ms p50 / p95':>20}{'tensors MiB':>13}{'host MiB':>10}{'GFLOP':>9}{'MFU %':>8}"
)


def _line(name: str, variant: Figures) -> str:
    rate, step = variant["samples_per_second"], variant["step_ms"]
    return (
        f"{name:<30}{rate['median']:>10.1f}{_pair(rate['min'], '-', rate['max']):>20}"
        f"{_number(variant['ratio'], 1, 2):>9}{_number(variant['share_of_limit'], 100, 1):>9}"
        f"{_number(variant['data_wait'], 100, 1):>8}{_pair(step['p50'], '/', step['p95']):>20}"
        f"{_number(variant['tensor_mib'], 1, 0):>13}{_number(variant['host_mib'], 1, 0):>10}"
        f"{_number(variant['gflop_per_sample'], 1, 2):>9}{_number(variant['mfu'], 100, 1):>8}"
    )


def _pair(a: float, between: str, b: float) -> str:
    return f"({a:.1f} {between} {b:.1f})" if between == "-" else f"{a:.1f} {between} {b:.1f}"


def _number(value: float | None, factor: float, digits: int) -> str:
    return "-" if value is None else f"{factor * value:.{digits}f}"


def write_figures(target: Path, name: str, figures: Figures) -> Path:
    """Put one benchmark's figures into a file beside those of the others.

    Args:
        target: the file; or a folder, where the file is named after the device.
        figures: must hold `machine`.

    Returns:
        The file: {"benches": {name: figures}}.
    """
    path = _named_after(figures["machine"], target)
    content = read_json(path) if path.exists() else {"benches": {}}
    content["benches"][name] = figures
    write_json(path, content)
    return path


def check_results(target: Path) -> None:
    """Whether figures can be added to this file, or to this device's file in a folder.

    Raises:
        UserError: the file holds something else, or cannot be there.
    """
    machine = {"device": device_name(choose_device()), "cpu": processor()}
    path = _named_after(machine, target)
    if path.is_dir():
        raise UserError(f"--json {path}: is a folder; name a file, or a folder without .json")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise UserError(f"--json {path}: {parent} is a file, not a folder; name another place")
    if not path.exists():
        return
    content = read_json(path)
    benches = content.get("benches") if isinstance(content, dict) else None
    if not isinstance(benches, dict) or not all(isinstance(b, dict) for b in benches.values()):
        raise UserError(
            f"--json {path}: is not a file that a benchmark wrote (it has no `benches`); "
            "name a new file or delete this one"
        )


def slug(machine: Figures) -> str:
    """A file name for a machine: the GPU's, or the processor's."""
    name = machine["device"] if machine["device"] != "cpu" else f"cpu-{machine['cpu']}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _named_after(machine: Figures, target: Path) -> Path:
    if target.is_dir() or target.suffix != ".json":
        return target / f"{slug(machine)}.json"
    return target

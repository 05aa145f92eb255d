"""From turns to figures."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from cp2.bench.harness import Turn, Way
from cp2.bench.record import describe_machine
from cp2.bench.scratch import Scratch
from cp2.bench.sizes import Sizes

Figures = dict[str, Any]
Say = Callable[[str], None]


def assemble(
    sizes: Sizes,
    room: Scratch,
    ways: Sequence[Way],
    turns: dict[str, list[Turn]],
    device: torch.device,
    peaks: dict[str, float],
    memory: dict[str, float] | None = None,
) -> Figures:
    """What a bench hands out: what was measured, on what, and by whom.

    Args:
        peaks, memory: see `summarize`.
    """
    return {
        "images": room.description,
        "sizes": asdict(sizes),
        "peak_tflops": {name: peak / 1e12 for name, peak in peaks.items()},
        "ways": summarize(ways, turns, peaks, memory),
        "machine": describe_machine(device),
    }


def summarize(
    ways: Sequence[Way],
    turns: dict[str, list[Turn]],
    peaks: dict[str, float] | None = None,
    memory: dict[str, float] | None = None,
) -> Figures:
    """Figures of each way: medians over its turns, with the spread.

    Args:
        peaks: measured floating point operations a second by precision.
        memory: most MiB that tensors held in each way, where the turns do not say (on a CPU).

    Returns:
        By way: `samples_per_second` {median, min, max, rounds}, `step_ms` {p50, p95} over all
        steps, `data_wait`, `tensor_mib`, `host_mib`, `ratio` to the published recipe,
        `share_of_limit`, `gflop_per_sample` and `mfu`; None where there is nothing to say.
    """
    medians = {
        way.name: statistics.median(t.samples_per_second for t in turns[way.name]) for way in ways
    }
    published = next((medians[way.name] for way in ways if way.role == "published"), None)
    limit = next((way.name for way in ways if way.role == "limit"), None)
    figures: Figures = {}
    for way in ways:
        rate = medians[way.name]
        above = way.limit or limit
        peak = (peaks or {}).get(way.precision or "")
        found = _of_turns(turns[way.name])
        if found["tensor_mib"] is None:
            found["tensor_mib"] = (memory or {}).get(way.name)
        figures[way.name] = {
            "role": way.role,
            "precision": way.precision,
            **found,
            "ratio": rate / published if published and way.role == "ours" else None,
            "share_of_limit": rate / medians[above] if above and way.role != "limit" else None,
            "gflop_per_sample": way.flops / 1e9 if way.flops else None,
            "mfu": rate * way.flops / peak if way.flops and peak else None,
        }
    return figures


def _of_turns(turns: Sequence[Turn]) -> Figures:
    rates = [turn.samples_per_second for turn in turns]
    steps = sorted(1000 * second for turn in turns for second in turn.steps)
    waits = [turn.waited / turn.seconds for turn in turns if turn.waited is not None]
    return {
        "samples_per_second": {
            "median": statistics.median(rates),
            "min": min(rates),
            "max": max(rates),
            "rounds": rates,
        },
        "step_ms": {"p50": percentile(steps, 0.5), "p95": percentile(steps, 0.95)},
        "data_wait": statistics.median(waits) if waits else None,
        "tensor_mib": _largest(turn.device_mib for turn in turns),
        "host_mib": _largest(turn.host_mib for turn in turns),
    }


def _largest(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    return ascending[max(0, -(-int(share * 1000) * len(ascending) // 1000) - 1)]

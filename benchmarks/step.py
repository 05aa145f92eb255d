"""The pretraining step on data that already lie on the device: methods beside MoCo v2."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler

from benchmarks.figures import Figures, Say, assemble, print_table
from benchmarks.harness import Role, Stopwatch, Variant, alternate, tensor_peaks
from benchmarks.loops import (
    CP2,
    ON_THAT_NETWORK,
    Measured,
    all_methods,
    configuration,
    measured,
    pretrain_recipe,
    resident_variant,
    run_step,
)
from benchmarks.machine import matmul_peaks
from benchmarks.published_pretraining import published_training, published_update
from benchmarks.sizes import Sizes
from cp2.costs.work_folder import work_folder
from cp2.models.devices import choose_device

PUBLISHED = "published"
PROFILED, SHOWN = 3, 15  # steps, operators


def bench_step(
    sizes: Sizes,
    paths: Sequence[Path] | None = None,
    methods: Sequence[str] | None = None,
    profile: bool = False,
    say: Say = print,
) -> Figures:
    """Measure, print, and return the figures of the step.

    Ours is the loop of `cp2 pretrain`, which gets the same batch again and again: augmentation on
    the device, forward passes, losses, gradient, update. Each method has the network that the plan
    gives it. Its limit is the device's rate of matrix products, so the share of it is the model
    FLOP utilisation.

    Args:
        paths: images; None: synthetic ones.
        methods: names in configs/methods/; None: all that train such a backbone.
        profile: also print the operators that take longest.

    Returns:
        Also `beside`: by method its `baseline` and, divided by that baseline's, the `time` of a
        step and the `memory` of tensors.

    Raises:
        UserError: unknown names; sizes that do not fit together or into memory.
    """
    device, config = choose_device(), configuration()
    found = measured(config, list(methods or all_methods(config, sizes.backbone)), sizes)
    peaks = matmul_peaks(device, sizes.amp)
    with work_folder(paths) as work:
        variants = [resident_variant(one, work, sizes, _role(one)) for one in found]
        if any(one.name == CP2 for one in found):
            published = Measured(PUBLISHED, pretrain_recipe(config, CP2, sizes))
            variants.insert(0, published_step(published, device, sizes))
        timings = alternate(variants, sizes.rounds, device, say)
        memory = tensor_peaks(variants, device)
        operators = {
            variant.name: top_operators(variant, device) for variant in variants if profile
        }
    figures = assemble(sizes, work, variants, timings, device, peaks, memory)
    figures |= {"beside": beside(found, figures["variants"]), "operators": operators}
    print_table(figures, say)
    for line in describe(found, figures["beside"]):
        say(line)
    for name, rows in operators.items():
        print_operators(name, rows, say)
    return figures


def _role(one: Measured) -> Role:
    """Only what trains the published network is compared with the published step."""
    return "ours" if one.name in (CP2, ON_THAT_NETWORK) else "relative"


def beside(found: Sequence[Measured], variants: Figures) -> Figures:
    """Each method's step time and tensor memory, divided by those of its MoCo v2."""
    return {
        one.name: {
            "baseline": one.baseline,
            "time": _rate(variants[one.baseline]) / _rate(variants[one.name]),
            "memory": variants[one.name]["tensor_mib"] / variants[one.baseline]["tensor_mib"],
        }
        for one in found
        if one.baseline is not None
    }


def _rate(variant: Figures) -> float:
    rate: float = variant["samples_per_second"]["median"]
    return rate


def describe(found: Sequence[Measured], figures: Figures) -> list[str]:
    """A line a method: its network, and what it takes more than MoCo v2 there."""
    lines = []
    for one in found:
        network = one.recipe.backbone.name
        if one.recipe.backbone.family == "resnet":
            network += f" at output stride {one.recipe.backbone.output_stride}"
        network += f" with {one.recipe.head.name}" if one.recipe.head else ""
        line = f"{one.name} ({network})"
        if one.name in figures:
            more = figures[one.name]
            line += (
                f": time {more['time'] - 1:+.1%}, memory of tensors {more['memory'] - 1:+.1%} "
                f"beside {more['baseline']}"
            )
        elif one.recipe.method.kind != "moco-v2":
            line += ": no MoCo v2 on this network was timed; add one with --method"
        lines.append(line)
    return lines


def published_step(one: Measured, device: torch.device, sizes: Sizes) -> Variant:
    """The published step on random views and backgrounds that lie on the device."""

    def run(watch: Stopwatch) -> None:
        method, optimizer = published_training(one.recipe, device)
        batch = torch.randn(4, sizes.batch, 3, sizes.crop, sizes.crop, device=device)
        hole = slice(sizes.crop // 8, sizes.crop - sizes.crop // 8)
        batch[2:, :, :, hole, hole] = 0
        run_step(watch, lambda: published_update(method(*batch), optimizer))

    variant = Variant(PUBLISHED, run, sizes.batch, "published", steps=sizes.steps, precision="off")
    return replace(variant, flops=one.flops)


def top_operators(
    variant: Variant, device: torch.device, shown: int = SHOWN
) -> list[dict[str, Any]]:
    """The operators of one variant that take longest, by their own time on the device.

    Returns:
        Rows {operator, ms, share, calls} a step, longest first; `share` is of all operators.
    """
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    trace = profiler(activities=activities, acc_events=True)
    variant.run(Stopwatch(variant.warmup, PROFILED, variant.samples, device, trace=trace))
    events = trace.key_averages()
    times = {e.key: (e.self_device_time_total if gpu else e.self_cpu_time_total) for e in events}
    total = sum(times.values()) or 1.0
    calls = {event.key: event.count for event in events}
    longest = sorted(times, key=lambda key: -times[key])[:shown]
    return [
        {
            "operator": key,
            "ms": times[key] / 1000 / PROFILED,
            "share": times[key] / total,
            "calls": calls[key] / PROFILED,
        }
        for key in longest
    ]


def print_operators(title: str, rows: Sequence[dict[str, Any]], say: Say) -> None:
    """One line an operator."""
    say(f"{title:<56}{'ms a step':>10}{'share %':>9}{'calls':>8}")
    for row in rows:
        say(
            f"  {row['operator'][:52]:<54}{row['ms']:>10.2f}{100 * row['share']:>9.1f}"
            f"{row['calls']:>8.0f}"
        )

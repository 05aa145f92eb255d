"""The pretraining step on data that already lie on the device: methods beside MoCo v2."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cp2.bench.arithmetic import matmul_peaks
from cp2.bench.figures import Figures, Say, assemble
from cp2.bench.harness import Role, Stopwatch, Way, alternate, tensor_peaks
from cp2.bench.methods import (
    CP2,
    ON_THAT_NETWORK,
    Measured,
    all_methods,
    configuration,
    measured,
    pretrain_recipe,
    query_encoder,
)
from cp2.bench.profiling import print_operators, top_operators
from cp2.bench.project import resident_way, run_step
from cp2.bench.published.method import PublishedCp2, published_optimizer, published_update
from cp2.bench.scratch import scratch
from cp2.bench.sizes import Sizes
from cp2.bench.table import print_table
from cp2.models.devices import choose_device
from cp2.settings.methods import Cp2Settings

PUBLISHED = "published"


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
        paths: photographs; None: synthetic ones.
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
    with scratch(paths) as room:
        ways = [resident_way(one, room, sizes, _role(one)) for one in found]
        if any(one.name == CP2 for one in found):
            published = Measured(PUBLISHED, pretrain_recipe(config, CP2, sizes))
            ways.insert(0, published_step(published, device, sizes))
        turns = alternate(ways, sizes.rounds, device, say)
        memory = tensor_peaks(ways, device)
        operators = {way.name: top_operators(way, device) for way in ways if profile}
    figures = assemble(sizes, room, ways, turns, device, peaks, memory)
    figures |= {"beside": beside(found, figures["ways"]), "operators": operators}
    print_table(figures, say)
    for line in describe(found, figures["beside"]):
        say(line)
    for name, rows in operators.items():
        print_operators(name, rows, say)
    return figures


def _role(one: Measured) -> Role:
    """Only what trains the published network is compared with the published step."""
    return "ours" if one.name in (CP2, ON_THAT_NETWORK) else "relative"


def beside(found: Sequence[Measured], ways: Figures) -> Figures:
    """Each method's step time and tensor memory, divided by those of its MoCo v2."""
    return {
        one.name: {
            "baseline": one.baseline,
            "time": _rate(ways[one.baseline]) / _rate(ways[one.name]),
            "memory": ways[one.name]["tensor_mib"] / ways[one.baseline]["tensor_mib"],
        }
        for one in found
        if one.baseline is not None
    }


def _rate(way: Figures) -> float:
    rate: float = way["samples_per_second"]["median"]
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


def published_step(one: Measured, device: torch.device, sizes: Sizes) -> Way:
    """The published step on random views and backgrounds that lie on the device."""
    recipe = one.recipe
    settings = recipe.method
    assert isinstance(settings, Cp2Settings)

    def run(watch: Stopwatch) -> None:
        torch.manual_seed(0)
        method = PublishedCp2(settings, query_encoder(recipe)).to(device).train()
        optimizer = published_optimizer(settings.optimizer[recipe.backbone.family], method)
        batch = torch.randn(4, sizes.batch, 3, sizes.crop, sizes.crop, device=device)
        hole = slice(sizes.crop // 8, sizes.crop - sizes.crop // 8)
        batch[2:, :, :, hole, hole] = 0
        run_step(watch, lambda: published_update(method(*batch), optimizer))

    way = Way(PUBLISHED, run, sizes.batch, "published", steps=sizes.steps, precision="off")
    return replace(way, flops=one.flops)

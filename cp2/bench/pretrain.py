"""Pretraining from files to weights: the published recipe, our loop, and our step alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from cp2.bench.arithmetic import matmul_peaks
from cp2.bench.figures import Figures, Say, assemble
from cp2.bench.harness import Stopwatch, Way, alternate
from cp2.bench.inputs import check_backgrounds
from cp2.bench.methods import CP2, Measured, configuration, pretrain_recipe, query_encoder
from cp2.bench.project import loop_way, resident_way
from cp2.bench.published.method import PublishedCp2, published_optimizer, published_update
from cp2.bench.published.views import published_batches
from cp2.bench.record import throughput_row
from cp2.bench.scratch import Scratch, scratch
from cp2.bench.sizes import Sizes
from cp2.bench.table import print_table
from cp2.models.devices import choose_device
from cp2.settings.methods import Cp2Settings
from cp2.training.pretrain import pretrain

LIMIT = "step alone"


def bench_pretrain(
    sizes: Sizes,
    paths: Sequence[Path] | None = None,
    backgrounds: Sequence[str] | None = None,
    say: Say = print,
) -> Figures:
    """Measure, print, and return the figures of CP² from files to weights.

    Ours is the loop of `cp2 pretrain`, stopped after enough steps, once for each way to choose
    backgrounds, and on a GPU once with its decoder. The limit is the same loop on one batch that
    already lies on the device.

    Args:
        paths: photographs; None: synthetic ones.
        backgrounds: values of the method's `background`; None: all.

    Raises:
        UserError: unknown names; sizes that do not fit together or into memory.
    """
    backgrounds = backgrounds or all_backgrounds()
    check_backgrounds(sizes, backgrounds, all_backgrounds())
    device, config = choose_device(), configuration()
    recipes = {
        f"ours, background {kind}": pretrain_recipe(config, CP2, sizes, background=kind)
        for kind in backgrounds
    }
    if device.type == "cuda":
        recipes[f"ours, background {backgrounds[0]}, decoded on the GPU"] = pretrain_recipe(
            config, CP2, sizes, background=backgrounds[0], reading={"decoder": "device"}
        )
    first = Measured(LIMIT, next(iter(recipes.values())))
    peaks = matmul_peaks(device, sizes.amp)
    with scratch(paths) as room:
        ours = [
            replace(loop_way(name, pretrain, "pretrain", recipe, room, sizes), flops=first.flops)
            for name, recipe in recipes.items()
        ]
        limit = resident_way(first, room, sizes, role="limit")
        ways = [_published(first, room, sizes, device), *ours, limit]
        turns = alternate(ways, sizes.rounds, device, say)
    figures = assemble(sizes, room, ways, turns, device, peaks)
    rate = figures["ways"][ours[0].name]["samples_per_second"]["median"]
    figures["throughput"] = [
        throughput_row(
            "pretrain",
            sizes,
            rate,
            figures["machine"],
            method=CP2,
            output_stride=first.recipe.backbone.stride,
            flops=first.flops,
        )
    ]
    print_table(figures, say)
    return figures


def all_backgrounds() -> tuple[str, ...]:
    """Every value that `background` may have."""
    return get_args(Cp2Settings.model_fields["background"].annotation)


def _published(one: Measured, room: Scratch, sizes: Sizes, device: torch.device) -> Way:
    recipe = one.recipe
    settings = recipe.method
    assert isinstance(settings, Cp2Settings)

    def run(watch: Stopwatch) -> None:
        torch.manual_seed(0)
        method = PublishedCp2(settings, query_encoder(recipe)).to(device).train()
        optimizer = published_optimizer(settings.optimizer[recipe.backbone.family], method)
        paths = room.repeated((watch.warmup + watch.steps + 1) * sizes.batch)
        pin = device.type == "cuda"
        stream = published_batches(paths, settings, sizes.batch, sizes.workers, pin)
        while not watch.over:
            with watch.waiting():
                batch = next(stream)
            on_device = [part.to(device, non_blocking=True) for part in batch]
            published_update(method(*on_device), optimizer)
            watch.lap()

    return Way(
        "published",
        run,
        sizes.batch,
        "published",
        sizes.warmup,
        sizes.steps,
        precision="off",
        flops=one.flops,
    )

"""Pretraining from files to weights: the published recipe, our loop, and our step alone."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import torch

from cp2.bench.arithmetic import matmul_peaks, pretraining_flops
from cp2.bench.figures import Figures, Say, assemble
from cp2.bench.harness import Stopwatch, Way, alternate
from cp2.bench.inputs import check_backgrounds
from cp2.bench.project import (
    configuration,
    dense_encoder,
    loop_way,
    pretrain_recipe,
    resident_way,
)
from cp2.bench.published.method import PublishedCp2, published_optimizer, published_update
from cp2.bench.published.views import published_batches
from cp2.bench.record import throughput_row
from cp2.bench.scratch import Scratch, scratch
from cp2.bench.sizes import Sizes
from cp2.bench.table import print_table
from cp2.models.devices import choose_device
from cp2.plan.recipes import PretrainRecipe
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
        f"ours, background {kind}": pretrain_recipe(config, "cp2", sizes, background=kind)
        for kind in backgrounds
    }
    if device.type == "cuda":
        recipes[f"ours, background {backgrounds[0]}, decoded on the GPU"] = pretrain_recipe(
            config, "cp2", sizes, background=backgrounds[0], reading={"decoder": "device"}
        )
    first = next(iter(recipes.values()))
    flops = pretraining_flops(partial(dense_encoder, first), sizes.crop)
    peaks = matmul_peaks(device, sizes.amp)
    with scratch(paths) as room:
        ours = [
            loop_way(name, pretrain, "pretrain", recipe, room, sizes)
            for name, recipe in recipes.items()
        ]
        limit = resident_way(LIMIT, first, room, sizes, role="limit")
        ways = [_published(first, room, sizes, device), *ours, limit]
        turns = alternate(ways, sizes.rounds, device, say)
    figures = assemble(sizes, room, ways, turns, device, flops, peaks)
    rate = figures["ways"][ours[0].name]["samples_per_second"]["median"]
    figures["throughput"] = [
        throughput_row("pretrain", sizes, rate, figures["machine"], method="cp2")
    ]
    print_table(figures, say)
    return figures


def all_backgrounds() -> tuple[str, ...]:
    """Every value that `background` may have."""
    return get_args(Cp2Settings.model_fields["background"].annotation)


def _published(recipe: PretrainRecipe, room: Scratch, sizes: Sizes, device: torch.device) -> Way:
    settings = recipe.method
    assert isinstance(settings, Cp2Settings)

    def run(watch: Stopwatch) -> None:
        torch.manual_seed(0)
        method = PublishedCp2(settings, dense_encoder(recipe)).to(device).train()
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
        "published", run, sizes.batch, "published", sizes.warmup, sizes.steps, precision="off"
    )

"""Pretraining from files to weights: the published recipe, our loop, and our step alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from benchmarks.figures import Figures, Say, assemble, print_table
from benchmarks.harness import Stopwatch, Variant, alternate
from benchmarks.loops import (
    CP2,
    Measured,
    configuration,
    loop_variant,
    pretrain_recipe,
    resident_variant,
)
from benchmarks.machine import matmul_peaks
from benchmarks.published_pretraining import (
    published_batches,
    published_training,
    published_update,
)
from benchmarks.sizes import Sizes
from cp2.augment.pipeline import BATCH_SHIFTS
from cp2.costs.work_folder import WorkFolder, work_folder
from cp2.errors import UserError
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

    Ours is the loop of `cp2 pretrain`, stopped after enough steps, once for each variant to choose
    backgrounds, and on a GPU once with its decoder. The limit is the same loop on one batch that
    already lies on the device.

    Args:
        paths: images; None: synthetic ones.
        backgrounds: values of the method's `background`; None: all.

    Raises:
        UserError: unknown names; sizes that do not fit together or into memory.
    """
    backgrounds = backgrounds or all_backgrounds()
    _check_backgrounds(sizes, backgrounds)
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
    with work_folder(paths) as work:
        ours = [
            replace(
                loop_variant(name, pretrain, "pretrain", recipe, work, sizes), flops=first.flops
            )
            for name, recipe in recipes.items()
        ]
        limit = resident_variant(first, work, sizes, role="limit")
        variants = [_published(first, work, sizes, device), *ours, limit]
        timings = alternate(variants, sizes.rounds, device, say)
    figures = assemble(sizes, work, variants, timings, device, peaks)
    print_table(figures, say)
    return figures


def all_backgrounds() -> tuple[str, ...]:
    """Every value that `background` may have."""
    return get_args(Cp2Settings.model_fields["background"].annotation)


def _check_backgrounds(sizes: Sizes, backgrounds: Sequence[str]) -> None:
    known = all_backgrounds()
    for kind in backgrounds:
        if kind not in known:
            raise UserError(f"pretrain --background {kind}: use one of {', '.join(known)}")
    least = max(BATCH_SHIFTS) + 1
    if "batch" in backgrounds and sizes.batch < least:
        raise UserError(
            f"pretrain --batch {sizes.batch}: background batch takes two other images of the "
            f"batch; use {least} or more, or --background permutation"
        )


def _published(one: Measured, work: WorkFolder, sizes: Sizes, device: torch.device) -> Variant:
    recipe = one.recipe
    settings = recipe.method
    assert isinstance(settings, Cp2Settings)

    def run(watch: Stopwatch) -> None:
        method, optimizer = published_training(recipe, device)
        paths = work.repeated((watch.warmup + watch.steps + 1) * sizes.batch)
        pin = device.type == "cuda"
        stream = published_batches(paths, settings, sizes.batch, sizes.workers, pin)
        while not watch.over:
            with watch.waiting():
                batch = next(stream)
            on_device = [part.to(device, non_blocking=True) for part in batch]
            published_update(method(*on_device), optimizer)
            watch.lap()

    return Variant(
        "published",
        run,
        sizes.batch,
        "published",
        sizes.warmup,
        sizes.steps,
        precision="off",
        flops=one.flops,
    )

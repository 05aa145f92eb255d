"""Finetuning from files to weights: a plain loop, our first and later epochs, our step alone."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from cp2.augment.finetune import FinetuneDataset, LabelledPair
from cp2.bench.arithmetic import finetuning_flops, matmul_peaks
from cp2.bench.figures import Figures, Say, assemble
from cp2.bench.harness import Stopwatch, Way, alternate
from cp2.bench.methods import configuration
from cp2.bench.project import first_again, loop_way, run_loop
from cp2.bench.published.finetune import (
    PublishedLabelled,
    published_labelled_batches,
    published_segmentation_terms,
)
from cp2.bench.published.method import published_optimizer, published_update
from cp2.bench.record import throughput_row
from cp2.bench.scratch import CLASSES, DATASET, Scratch, scratch
from cp2.bench.sizes import Sizes
from cp2.bench.table import print_table
from cp2.data.decoded import DecodedPairs
from cp2.models.devices import choose_device
from cp2.models.encoders import Segmentor
from cp2.models.segmentor_files import build_segmentor
from cp2.plan.recipes import FinetuneRecipe
from cp2.settings.optimization import PolySettings, SgdSettings
from cp2.settings.protocols import FinetuneAugmentation, FinetuneOptimization
from cp2.training.finetune import finetune

PLAIN, OURS, LIMIT = "plain", "ours, first epoch", "step alone"
MEMORY = "ours, later epochs"
PUBLISHED_CROP = (512, 512)  # on VOC2012
CUT_FROM, CUTS = 64, 200  # images that are decoded for it, and samples whose cutting is timed
ROOM = 10**9  # bytes for decoded images
MANY = 10**6  # iterations of a schedule that the bench never ends


def bench_finetune(sizes: Sizes, paths: Sequence[Path] | None = None, say: Say = print) -> Figures:
    """Measure, print, and return the figures of finetuning end to end.

    Ours is the loop of `cp2 finetune`, stopped after enough steps; the plain loop augments with PIL
    and numpy and trains in float32. Labels are drawn to the photographs' sizes.

    Args:
        paths: photographs; None: synthetic ones.

    Returns:
        Also `cut_ms_per_sample`: what a worker does for a decoded image at the published crop.

    Raises:
        UserError: unknown names; sizes that do not fit together or into memory.
    """
    device, recipe = choose_device(), finetune_recipe(sizes)
    flops = finetuning_flops(lambda: _build(recipe), sizes.crop)
    peaks = matmul_peaks(device, sizes.amp)
    with scratch(paths) as room:
        ours = loop_way(OURS, finetune, "finetune", recipe, room, sizes)
        ways = [
            _plain(recipe, room, sizes, device),
            ours,
            _later_epochs(ours, recipe, room, sizes),
            _step_alone(ours, recipe, room, sizes),
        ]
        ways = [replace(way, flops=flops) for way in ways]
        turns = alternate(ways, sizes.rounds, device, say)
        cut = _cut_ms(room)
    figures = assemble(sizes, room, ways, turns, device, peaks)
    rate = figures["ways"][MEMORY]["samples_per_second"]["median"]
    crop = (sizes.crop, sizes.crop)
    figures["throughput"] = [
        throughput_row(
            "finetune",
            sizes,
            rate,
            figures["machine"],
            crop_size=crop,
            output_stride=recipe.backbone.stride,
            flops=flops,
        )
    ]
    figures["cut_ms_per_sample"] = cut
    print_table(figures, say)
    side = PUBLISHED_CROP[0]
    say(f"workers: {cut:.2f} ms a decoded image to resize, cut, flip and pad to {side} x {side}")
    return figures


def finetune_recipe(sizes: Sizes) -> FinetuneRecipe:
    """Finetuning from random weights as on VOC2012, at these sizes."""
    config = configuration()
    return FinetuneRecipe(
        backbone=config.backbone(sizes.backbone),
        head=config.head(sizes.head),
        pretrained_head=False,
        dataset=DATASET,
        classes=CLASSES,
        label_fraction=1.0,
        augmentation=FinetuneAugmentation(
            crop=(sizes.crop, sizes.crop), resize=(sizes.crop, 4 * sizes.crop)
        ),
        optimization=FinetuneOptimization(
            optimizer=SgdSettings(kind="sgd", lr=0.003, weight_decay=0.0),
            poly=PolySettings(),
            batch_size=sizes.batch,
            iterations=MANY,
        ),
        amp=sizes.amp,
    )


def _cut_ms(room: Scratch) -> float:
    """Milliseconds of one core for a sample of a decoded image, median over some."""
    pairs = [LabelledPair(*files) for files in room.pairs(min(CUT_FROM, len(room.paths)))]
    crop = PUBLISHED_CROP
    settings = FinetuneAugmentation(crop=crop, resize=(crop[0], 4 * crop[0]))
    dataset = FinetuneDataset(pairs, settings, 0, DecodedPairs(len(pairs), ROOM))
    times = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        for position in range(len(pairs) + CUTS):  # in the first epoch images are decoded
            start = time.perf_counter()
            _ = dataset[position]
            times.append((time.perf_counter() - start) * 1000)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times[len(pairs) :])


def _build(recipe: FinetuneRecipe) -> Segmentor:
    return build_segmentor(recipe.backbone, recipe.head, recipe.classes)


def _later_epochs(ours: Way, recipe: FinetuneRecipe, room: Scratch, sizes: Sizes) -> Way:
    """Our loop on so few images that all are decoded before the clock starts."""

    def run(watch: Stopwatch) -> None:
        run_loop(watch, finetune, "finetune", recipe, room, sizes, images=sizes.batch)

    return replace(ours, name=MEMORY, run=run)


def _step_alone(ours: Way, recipe: FinetuneRecipe, room: Scratch, sizes: Sizes) -> Way:
    """Our loop on one batch that lies on the device."""
    alone = replace(sizes, workers=0)

    def run(watch: Stopwatch) -> None:
        loop = partial(finetune, feed=first_again(watch.device))
        run_loop(watch, loop, "finetune", recipe, room, alone)

    return replace(ours, name=LIMIT, run=run, role="limit")


def _plain(recipe: FinetuneRecipe, room: Scratch, sizes: Sizes, device: torch.device) -> Way:
    def run(watch: Stopwatch) -> None:
        torch.manual_seed(0)
        model = _build(recipe).to(device).train()
        optimizer = published_optimizer(recipe.optimization.optimizer, model)
        pairs = room.pairs((watch.warmup + watch.steps + 1) * sizes.batch)
        dataset = PublishedLabelled(pairs, recipe.augmentation)
        pin = device.type == "cuda"
        stream = iter(published_labelled_batches(dataset, sizes.batch, sizes.workers, pin))
        while not watch.over:
            with watch.waiting():
                images, labels = next(stream)
            images = images.to(device, non_blocking=True)
            labels = labels.to(device, non_blocking=True)
            published_update(published_segmentation_terms(model, images, labels), optimizer)
            watch.lap()

    return Way(PLAIN, run, sizes.batch, "published", sizes.warmup, sizes.steps, precision="off")

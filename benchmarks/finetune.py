"""Finetuning from files to weights: a plain loop, our first and later epochs, our step alone."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.figures import Figures, Say, assemble, print_table
from benchmarks.harness import Stopwatch, Variant, alternate
from benchmarks.loops import (
    CLASSES,
    DATASET,
    configuration,
    loop_variant,
    resident_batches,
    run_loop,
)
from benchmarks.machine import matmul_peaks
from benchmarks.published_pretraining import published_optimizer, published_update
from benchmarks.published_segmentation import (
    PublishedLabelled,
    published_labelled_batches,
    published_segmentation_terms,
)
from benchmarks.sizes import Sizes
from cp2.costs.networks import count_finetuning
from cp2.costs.work_folder import WorkFolder, work_folder
from cp2.data.decoded import DecodedPairs
from cp2.models.devices import choose_device
from cp2.models.encoders import Segmentor
from cp2.models.segmentor_files import build_segmentor
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe
from cp2.protocols.segmentation import finetuning as finetuning
from cp2.protocols.segmentation.samples import FinetuneDataset, LabelledPair
from cp2.settings.optimization import PolySettings, SgdSettings
from cp2.settings.protocols.segmentation import FinetuneAugmentation, FinetuneOptimization

PLAIN, OURS, LIMIT = "plain", "ours, first epoch", "step alone"
MEMORY = "ours, later epochs"
PUBLISHED_CROP = (512, 512)  # on VOC2012
CUT_FROM, CUTS = 64, 200  # images that are decoded for it, and samples whose cutting is timed
MEMORY_BYTES = 10**9  # bytes for decoded images
MANY = 10**6  # iterations of a schedule that the bench never ends


def bench_finetune(sizes: Sizes, paths: Sequence[Path] | None = None, say: Say = print) -> Figures:
    """Measure, print, and return the figures of finetuning end to end.

    Ours is the loop of `cp2 finetune`, stopped after enough steps; the plain loop augments with PIL
    and numpy and trains in float32. Labels are drawn to the images' sizes.

    Args:
        paths: images; None: synthetic ones.

    Returns:
        Also `cut_ms_per_sample`: what a worker does for a decoded image at the published crop.

    Raises:
        UserError: unknown names; sizes that do not fit together or into memory.
    """
    device, recipe = choose_device(), finetune_recipe(sizes)
    flops = 1e9 * count_finetuning(recipe).gflop
    peaks = matmul_peaks(device, sizes.amp)
    with work_folder(paths) as work:
        ours = loop_variant(OURS, finetuning.finetune, "finetune", recipe, work, sizes)
        variants = [
            _plain(recipe, work, sizes, device),
            ours,
            _later_epochs(ours, recipe, work, sizes),
            _step_alone(ours, recipe, work, sizes),
        ]
        variants = [replace(variant, flops=flops) for variant in variants]
        timings = alternate(variants, sizes.rounds, device, say)
        cut = _cut_ms(work)
    figures = assemble(sizes, work, variants, timings, device, peaks)
    figures["cut_ms_per_sample"] = cut
    print_table(figures, say)
    side = PUBLISHED_CROP[0]
    say(f"workers: {cut:.2f} ms a decoded image to resize, cut, flip and pad to {side} x {side}")
    return figures


def finetune_recipe(sizes: Sizes) -> SegmentationFinetuneRecipe:
    """Finetuning from random weights as on VOC2012, at these sizes."""
    config = configuration()
    return SegmentationFinetuneRecipe(
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


def _cut_ms(work: WorkFolder) -> float:
    """Milliseconds of one core for a sample of a decoded image, median over some."""
    pairs = [LabelledPair(*files) for files in work.pairs(min(CUT_FROM, len(work.paths)), CLASSES)]
    crop = PUBLISHED_CROP
    settings = FinetuneAugmentation(crop=crop, resize=(crop[0], 4 * crop[0]))
    dataset = FinetuneDataset(pairs, settings, 0, DecodedPairs(len(pairs), MEMORY_BYTES))
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


def _build(recipe: SegmentationFinetuneRecipe) -> Segmentor:
    return build_segmentor(recipe.backbone, recipe.head, recipe.classes)


def _later_epochs(
    ours: Variant, recipe: SegmentationFinetuneRecipe, work: WorkFolder, sizes: Sizes
) -> Variant:
    """Our loop on so few images that all are decoded before the clock starts."""

    def run(watch: Stopwatch) -> None:
        run_loop(watch, finetuning.finetune, "finetune", recipe, work, sizes, images=sizes.batch)

    return replace(ours, name=MEMORY, run=run)


def _step_alone(
    ours: Variant, recipe: SegmentationFinetuneRecipe, work: WorkFolder, sizes: Sizes
) -> Variant:
    """Our loop on one batch that lies on the device."""
    alone = replace(sizes, workers=0)

    def run(watch: Stopwatch) -> None:
        with resident_batches(finetuning):
            run_loop(watch, finetuning.finetune, "finetune", recipe, work, alone)

    return replace(ours, name=LIMIT, run=run, role="limit")


def _plain(
    recipe: SegmentationFinetuneRecipe, work: WorkFolder, sizes: Sizes, device: torch.device
) -> Variant:
    def run(watch: Stopwatch) -> None:
        torch.manual_seed(0)
        model = _build(recipe).to(device).train()
        optimizer = published_optimizer(recipe.optimization.optimizer, model)
        pairs = work.pairs((watch.warmup + watch.steps + 1) * sizes.batch, CLASSES)
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

    return Variant(PLAIN, run, sizes.batch, "published", sizes.warmup, sizes.steps, precision="off")

"""The project's own code as ways to measure: its loops as they are, and its step alone."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cp2.augment.pipeline import ViewBatch
from cp2.bench.harness import Role, Stopwatch, Way
from cp2.bench.methods import Measured
from cp2.bench.scratch import DATASET, Scratch, silent
from cp2.bench.sizes import Sizes
from cp2.plan.graph import Run
from cp2.plan.recipes import Recipe
from cp2.record.metrics import read_metrics
from cp2.settings.campaign import Execution
from cp2.training.clock import StoppedForResumeError
from cp2.training.pretrain import pretrain

Loop = Callable[[Run, Path, Execution, Stopwatch], None]


def first_again(device: torch.device) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """For the loops' `feed`: an epoch's first batch again and again, on the device."""

    def feed(batches: Iterable[Any]) -> Iterator[Any]:
        stream = iter(batches)
        batch = next(stream)
        del stream  # and its workers
        return itertools.repeat(to_device(batch, device))

    return feed


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch with its pixels on the device; what the loops want on the host stays there."""
    if isinstance(batch, ViewBatch):
        return batch.to(device)
    return batch._replace(images=batch.images.to(device), labels=batch.labels.to(device))


def run_step(watch: Stopwatch, step: Callable[[], object]) -> None:
    """Repeat a step for one turn."""
    while not watch.over:
        step()
        watch.lap()


def log_every(sizes: Sizes) -> int:
    """Steps between two lines of metrics.jsonl, such that the timed steps are whole windows."""
    return max(2, min(10, sizes.steps))


def whole_windows(steps: int, sizes: Sizes) -> int:
    """The next multiple of `log_every`."""
    return math.ceil(steps / log_every(sizes)) * log_every(sizes)


def run_loop(
    watch: Stopwatch,
    loop: Loop,
    stage: str,
    recipe: Recipe,
    scratch: Scratch,
    sizes: Sizes,
    images: int | None = None,
) -> None:
    """One turn of the project's own loop, stopped as a scheduler's end would stop it.

    Args:
        images: in the data set; None: so many that the turn lies within one epoch.
    """
    labelled = stage == "finetune"
    enough = (watch.warmup + watch.steps + 2) * watch.samples
    scratch.prepare(images or enough, "train" if labelled else "unlabelled", labelled)
    results = scratch.results()
    run = Run(stage, f"bench-{stage}", "", recipe, 0, (f"dataset/{DATASET}",), {})
    execution = Execution(
        workers=sizes.workers, log_every=log_every(sizes), save_minutes=1e6, results=str(results)
    )
    try:
        with silent():
            loop(run, results, execution, watch)
    except StoppedForResumeError:
        pass
    watch.set_waited(_waited(run.folder(results).metrics, watch))


def _waited(metrics: Path, watch: Stopwatch) -> float:
    """Seconds that the timed windows waited for data, by the loop's own record."""
    lines = read_metrics(metrics)
    total, before = 0.0, 0
    for line in lines:
        if line["step"] > watch.warmup:
            seconds = (line["step"] - before) * watch.samples / line["samples_per_second"]
            total += line["data_wait"] * seconds
        before = line["step"]
    return total


def loop_way(
    name: str, loop: Loop, stage: str, recipe: Recipe, scratch: Scratch, sizes: Sizes
) -> Way:
    """The project's own loop, from files to weights."""
    return Way(
        name,
        partial(run_loop, loop=loop, stage=stage, recipe=recipe, scratch=scratch, sizes=sizes),
        sizes.batch,
        "ours",
        whole_windows(sizes.warmup, sizes),
        whole_windows(sizes.steps, sizes),
        precision=sizes.amp,
    )


def resident_way(one: Measured, scratch: Scratch, sizes: Sizes, role: Role = "ours") -> Way:
    """The pretraining loop on one batch that lies on the device."""
    sizes = replace(sizes, workers=0)

    def run(watch: Stopwatch) -> None:
        loop = partial(pretrain, make_encoder=one.make_encoder, feed=first_again(watch.device))
        run_loop(watch, loop, "pretrain", one.recipe, scratch, sizes)

    way = loop_way(one.name, pretrain, "pretrain", one.recipe, scratch, sizes)
    return replace(way, run=run, role=role, flops=one.flops)

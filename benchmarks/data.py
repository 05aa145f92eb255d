"""The input pipeline on one worker core: the published recipe, ours, the limits; its memory."""

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms.v2 import functional

from benchmarks.figures import Figures, Say, print_table, summarize
from benchmarks.harness import Role, Stopwatch, Variant, alternate
from benchmarks.machine import describe_machine, worker_rss_mib
from benchmarks.pretrain import all_backgrounds
from benchmarks.published_pretraining import Triples
from cp2.augment.pipeline import batches, prepare
from cp2.augment.samples import PretrainDataset, ViewBatch
from cp2.costs.measure import PREFETCH
from cp2.costs.work_folder import WorkFolder, image_format, some, work_folder
from cp2.drawing.crops import draw_crop
from cp2.errors import UserError
from cp2.models.devices import choose_device
from cp2.settings.methods import Cp2Settings

BATCH = 64  # smaller ones measure what it costs to hand a batch over
ROUNDS = 3
EPOCH = 50_000  # samples of an epoch, so that no round sees its end
MEMORY_BATCH = 16
POINTS = 20  # at which memory is read, evenly spread over the samples
WARM = 2  # the point, a tenth of the samples, from which on memory must stay as it is
GROWTH_LIMIT = 0.05  # of the memory at that point
PUBLISHED, DECODE = "published", "decode alone"
# Decodes and crops of a sample: backgrounds from files of their own, or other samples' images.
INDEPENDENT, REUSED = (3, 4), (1, 4)


class DecodeAndCrop(Dataset[int]):
    """Some decodes and random crops with torchvision, thrown away: what no pipeline can beat."""

    def __init__(
        self, paths: Sequence[Path], settings: Cp2Settings, counts: tuple[int, int]
    ) -> None:
        self._paths, self._views = list(paths), settings.views
        self._decodes, self._crops = counts

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> int:
        rng = np.random.default_rng(index)
        images = [self._decode(index * 3 + i) for i in range(self._decodes)]
        total = 0
        for i in range(self._crops):
            image = images[i % len(images)]
            views = self._views
            box = draw_crop(rng, image.shape[1], image.shape[2], views.crop_scale, views.crop_ratio)
            size = [views.crop_size, views.crop_size]
            total += functional.resized_crop(image, *box, size=size, antialias=True).shape[1]
        return total

    def _decode(self, index: int) -> torch.Tensor:
        data = read_file(str(self._paths[index % len(self)]))
        return decode_jpeg(data, ImageReadMode.RGB)


def bench_data(
    paths: Sequence[Path] | None = None,
    seconds: float = 60.0,
    rounds: int = ROUNDS,
    say: Say = print,
    batch: int = BATCH,
) -> Figures:
    """Measure, print, and return the figures of one worker.

    The limits decode and crop, once for backgrounds with files of their own (three decodes and four
    crops a sample) and once for reused ones (one and four).

    Args:
        paths: images; None: synthetic ones.
        seconds: for everything; shared by `rounds` rounds of each variant.

    Returns:
        Also `device_ms_per_sample` of each of our variants: what is left to the device.

    Raises:
        UserError: no path, fewer than one round, no time, or an image that is no JPEG.
    """
    if seconds <= 0:
        raise UserError(f"data --seconds {seconds:g}: must be more than 0")
    check_jpegs(paths or ())
    device = choose_device()
    with work_folder(paths) as work:
        own = {f"ours, background {kind}": cp2_settings(kind) for kind in all_backgrounds()}
        variants = _variants(work, own, batch)
        share = seconds / (max(rounds, 1) * len(variants))
        variants = [replace(variant, seconds=share) for variant in variants]
        timings = alternate(variants, rounds, torch.device("cpu"), say)
        figures: Figures = {
            "images": work.description,
            "variants": summarize(variants, timings),
            "machine": describe_machine(device),
            "device_ms_per_sample": {
                name: _device_share(
                    next(iter(worker_batches(work, settings, 0, batch=batch))), settings, device
                )
                for name, settings in own.items()
            },
        }
    print_table(figures, say)
    for name, share in figures["device_ms_per_sample"].items():
        say(f"{name}: {share:.3f} ms a sample are left to the device ({device.type})")
    return figures


def bench_memory(paths: Sequence[Path] | None, samples: int, say: Say = print) -> Figures:
    """Watch the memory of one worker over so many samples, for each kind of backgrounds.

    Args:
        paths: images; None: synthetic ones.

    Returns:
        By variant: `samples` and `rss_mib` of each point, `growth_mib` and `growth` (a share) from
        a tenth of the samples to the end, `flat`; and `flat` of all.

    Raises:
        UserError: too few samples, or the system does not tell a worker's memory.
    """
    if samples < POINTS * MEMORY_BATCH:
        raise UserError(f"data --memory {samples}: {POINTS * MEMORY_BATCH} samples are the least")
    with work_folder(paths) as work:
        variants = {
            f"ours, background {kind}": _watch(work, cp2_settings(kind), samples)
            for kind in all_backgrounds()
        }
        images = work.description
    for name, found in variants.items():
        say(
            f"{name}: {found['rss_mib'][-1]:.0f} MiB in the worker after {found['samples'][-1]} "
            f"samples, {found['growth_mib']:+.1f} MiB ({found['growth']:+.1%}) since "
            f"{found['samples'][WARM - 1]} samples; "
            f"{'within' if found['flat'] else 'MORE THAN'} the limit of {GROWTH_LIMIT:+.0%}"
        )
    return {
        "machine": describe_machine(choose_device()),
        "images": images,
        "limit": GROWTH_LIMIT,
        "variants": variants,
        "flat": all(variant["flat"] for variant in variants.values()),
    }


def _watch(work: WorkFolder, settings: Cp2Settings, samples: int) -> Figures:
    steps = samples // MEMORY_BATCH
    points = [steps * point // POINTS for point in range(1, POINTS + 1)]
    sizes = []
    stream = iter(
        worker_batches(work, settings, samples=samples + MEMORY_BATCH, batch=MEMORY_BATCH)
    )
    for step in range(1, steps + 1):
        next(stream)
        if step in points:
            sizes.append(_worker_mib())
    growth = sizes[-1] - sizes[WARM - 1]
    return {
        "samples": [point * MEMORY_BATCH for point in points],
        "rss_mib": sizes,
        "growth_mib": growth,
        "growth": growth / sizes[WARM - 1],
        "flat": growth <= GROWTH_LIMIT * sizes[WARM - 1],
    }


def _worker_mib() -> float:
    size = worker_rss_mib()
    if size is None:
        raise UserError(
            "data --memory: this system does not tell a worker's memory "
            "(/proc/<process>/status); run it on Linux"
        )
    return size


def _variants(work: WorkFolder, own: dict[str, Cp2Settings], batch: int) -> list[Variant]:
    plain = cp2_settings("permutation")

    def variant(name: str, dataset: Dataset[Any], role: Role) -> Variant:
        return _variant(name, _loader(dataset, batch), batch, role)

    variants = [variant(PUBLISHED, Triples(work.paths, plain), "published")]
    for name, settings in own.items():
        loader = worker_batches(work, settings, batch=batch)
        variants.append(_variant(name, loader, batch, "ours", limit=_limit_name(settings)))
    for counts in (INDEPENDENT, REUSED):
        limit = DecodeAndCrop(work.paths, plain, counts)
        variants.append(variant(_limit_label(counts), limit, "limit"))
    variants.append(variant(DECODE, DecodeAndCrop(work.paths, plain, (1, 0)), "limit"))
    return variants


def _limit_name(settings: Cp2Settings) -> str:
    return _limit_label(INDEPENDENT if settings.background == "permutation" else REUSED)


def _limit_label(counts: tuple[int, int]) -> str:
    return f"{counts[0]} decode{'s' * (counts[0] > 1)}, {counts[1]} crops"


def _variant(
    name: str, loader: Iterable[object], batch: int, role: Role, limit: str | None = None
) -> Variant:
    def run(watch: Stopwatch) -> None:
        stream: Iterator[object] = iter(loader)
        while not watch.over:
            next(stream)
            watch.lap()

    return Variant(name, run, batch, role, warmup=PREFETCH + 1, steps=1, limit=limit)


def worker_batches(
    work: WorkFolder,
    settings: Cp2Settings,
    workers: int = 1,
    samples: int = EPOCH,
    batch: int = BATCH,
) -> Iterable[ViewBatch]:
    """One epoch of our pipeline, as the workers hand it over."""
    dataset = PretrainDataset(work.repeated(samples), settings, seed=0)
    return batches(dataset, 0, 0, batch, workers, pin=False)


def _loader(dataset: Dataset[Any], batch: int) -> Iterable[object]:
    indices = np.random.default_rng(0).integers(len(dataset), size=EPOCH)  # type: ignore[arg-type]
    return DataLoader(
        dataset, batch, sampler=indices.tolist(), num_workers=1, prefetch_factor=PREFETCH
    )


def cp2_settings(background: str) -> Cp2Settings:
    """CP² as published, with backgrounds of this kind."""
    return Cp2Settings.model_validate(
        {"name": "bench", "title": "", "kind": "cp2", "background": background, "optimizer": {}}
    )


def _device_share(batch: ViewBatch, settings: Cp2Settings, device: torch.device) -> float:
    """Milliseconds a sample of augmentation and composition, median of three batches."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        prepare(batch, settings, device)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1000 / len(batch.images))
    return statistics.median(times[1:])


def check_jpegs(paths: Sequence[Path]) -> None:
    """Refuse images that the limits, which are torchvision's decoder, cannot read.

    Raises:
        UserError: a file is no JPEG.
    """
    for path in some(paths):
        found = image_format(path)
        if found != "JPEG":
            raise UserError(
                f"{path}: {found}; this benchmark compares with a JPEG decoder, so name a folder "
                "that holds only JPEG files, or no folder for synthetic ones"
            )

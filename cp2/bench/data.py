"""The input pipeline on one worker core: the published recipe, ours, and the limits."""

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms.v2 import functional

from cp2.augment.pipeline import PretrainDataset, ViewBatch, batches, prepare
from cp2.bench.figures import Figures, Say, summarize
from cp2.bench.harness import Role, Stopwatch, Way, alternate
from cp2.bench.inputs import check_jpegs
from cp2.bench.pretrain import all_backgrounds
from cp2.bench.published.views import Triples
from cp2.bench.record import describe_machine
from cp2.bench.scratch import Scratch, scratch
from cp2.bench.sizes import PREFETCH
from cp2.bench.table import print_table
from cp2.drawing.crops import draw_crop
from cp2.errors import UserError
from cp2.models.devices import choose_device
from cp2.settings.methods import Cp2Settings

BATCH = 64  # smaller ones measure what it costs to hand a batch over
ROUNDS = 3
EPOCH = 50_000  # samples of an epoch, so that no turn sees its end
PUBLISHED, DECODE = "published", "decode alone"
# Decodes and crops of a sample: backgrounds from files of their own, or other samples' images.
INDEPENDENT, REUSED = (3, 4), (1, 4)


class DecodeAndCrop(Dataset[int]):
    """Some decodes and random crops with torchvision, thrown away: what no pipeline can beat."""

    def __init__(self, paths: Sequence[Path], settings: Cp2Settings, work: tuple[int, int]) -> None:
        self._paths, self._views = list(paths), settings.views
        self._decodes, self._crops = work

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
) -> Figures:
    """Measure, print, and return the figures of one worker.

    The limits decode and crop, once for backgrounds with files of their own (three decodes and four
    crops a sample) and once for reused ones (one and four).

    Args:
        paths: photographs; None: synthetic ones.
        seconds: for everything; shared by `rounds` turns of each way.

    Returns:
        Also `device_ms_per_sample` of each of our ways: what is left to the device.

    Raises:
        UserError: no path, fewer than one round, no time, or an image that is no JPEG.
    """
    if seconds <= 0:
        raise UserError(f"bench data --seconds {seconds:g}: must be more than 0")
    check_jpegs(paths or ())
    device = choose_device()
    with scratch(paths) as room:
        own = {f"ours, background {kind}": cp2_settings(kind) for kind in all_backgrounds()}
        ways = _ways(room, own)
        turn = seconds / (max(rounds, 1) * len(ways))
        ways = [replace(way, seconds=turn) for way in ways]
        turns = alternate(ways, rounds, torch.device("cpu"), say)
        figures: Figures = {
            "images": room.description,
            "ways": summarize(ways, turns),
            "machine": describe_machine(device),
            "device_ms_per_sample": {
                name: _device_share(
                    next(iter(worker_batches(room, settings, workers=0))), settings, device
                )
                for name, settings in own.items()
            },
        }
    print_table(figures, say)
    for name, share in figures["device_ms_per_sample"].items():
        say(f"{name}: {share:.3f} ms a sample are left to the device ({device.type})")
    return figures


def _ways(room: Scratch, own: dict[str, Cp2Settings]) -> list[Way]:
    plain = cp2_settings("permutation")
    ways = [_way(PUBLISHED, _loader(Triples(room.paths, plain)), "published")]
    for name, settings in own.items():
        ways.append(_way(name, worker_batches(room, settings), "ours", limit=_limit_name(settings)))
    for work in (INDEPENDENT, REUSED):
        loader = _loader(DecodeAndCrop(room.paths, plain, work))
        ways.append(_way(_work_name(work), loader, "limit"))
    ways.append(_way(DECODE, _loader(DecodeAndCrop(room.paths, plain, (1, 0))), "limit"))
    return ways


def _limit_name(settings: Cp2Settings) -> str:
    return _work_name(INDEPENDENT if settings.background == "permutation" else REUSED)


def _work_name(work: tuple[int, int]) -> str:
    return f"{work[0]} decode{'s' * (work[0] > 1)}, {work[1]} crops"


def _way(name: str, loader: Iterable[object], role: Role, limit: str | None = None) -> Way:
    def run(watch: Stopwatch) -> None:
        stream: Iterator[object] = iter(loader)
        while not watch.over:
            next(stream)
            watch.lap()

    return Way(name, run, BATCH, role, warmup=PREFETCH + 1, steps=1, limit=limit)


def worker_batches(
    room: Scratch,
    settings: Cp2Settings,
    workers: int = 1,
    samples: int = EPOCH,
    batch: int = BATCH,
) -> Iterable[ViewBatch]:
    """One epoch of our pipeline, as the workers hand it over."""
    dataset = PretrainDataset(room.repeated(samples), settings, seed=0)
    return batches(dataset, 0, 0, batch, workers, pin=False)


def _loader(dataset: Dataset[object]) -> Iterable[object]:
    indices = np.random.default_rng(0).integers(len(dataset), size=EPOCH)  # type: ignore[arg-type]
    return DataLoader(
        dataset, BATCH, sampler=indices.tolist(), num_workers=1, prefetch_factor=PREFETCH
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
        times.append((time.perf_counter() - start) * 1000 / BATCH)
    return statistics.median(times[1:])

"""How many samples a second one worker core makes, against the recipe as it was published.

Four ways take turns on the same files, so that a busy machine slows all of them alike:
the published recipe (three PIL decodes and four PIL augmentations a sample), ours with backgrounds
from their own files, ours with backgrounds from the batch, and decoding alone as the limit.
"""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cp2.augment import counters
from cp2.augment.photometric import IMAGENET_MEAN, IMAGENET_STD
from cp2.augment.pipeline import Position, PretrainDataset, ViewBatch, prepare
from cp2.bench.photographs import write_photographs
from cp2.data.images import decode_rgb
from cp2.errors import UserError
from cp2.settings.methods import Cp2Settings

BATCH = 16
PREFETCH = 2  # batches a worker keeps ready; they were made before the clock started
ROUNDS = 3
SYNTHETIC = 64  # photographs
WAYS = ("published", "ours", "ours-batch-background", "decode-only")


class PublishedRecipe(Dataset[tuple[Tensor, ...]]):
    """One sample as three loaders of the released code make it (CP² sec. 3.1, released code).

    Two views of a foreground and one view each of two backgrounds, in PIL; a background's
    foreground rectangle is erased last.
    """

    def __init__(self, paths: Sequence[Path], settings: Cp2Settings) -> None:
        self._paths = list(paths)
        views = settings.views
        jitter = transforms.ColorJitter(
            views.brightness, views.contrast, views.saturation, views.hue
        )
        self._view = transforms.Compose(
            [
                transforms.RandomResizedCrop(
                    views.crop_size, scale=views.crop_scale, ratio=views.crop_ratio
                ),
                transforms.RandomApply([jitter], p=views.jitter_probability),
                transforms.RandomGrayscale(p=views.gray_probability),
                transforms.RandomApply([_PilBlur(views.blur_sigma)], p=views.blur_probability),
                transforms.RandomHorizontalFlip(p=views.flip_probability),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )
        self._erase = transforms.RandomErasing(
            p=1, scale=settings.mask.area, ratio=settings.mask.aspect, value=0
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: Position) -> tuple[Tensor, ...]:
        foreground = self._decode(position.foreground)
        backgrounds = [self._erase(self._view(self._decode(i))) for i in position.backgrounds]
        return (self._view(foreground), self._view(foreground), *backgrounds)

    def _decode(self, index: int) -> Image.Image:
        with Image.open(self._paths[index]) as image:
            return image.convert("RGB")


class _PilBlur:
    def __init__(self, sigma: tuple[float, float]) -> None:
        self._sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        sigma = float(torch.empty(1).uniform_(*self._sigma))
        return image.filter(ImageFilter.GaussianBlur(radius=sigma))


class DecodeOnly(Dataset[int]):
    """One decoded file a sample, thrown away."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: Position) -> int:
        return decode_rgb(self._paths[position.foreground]).shape[1]


class _Endless:
    """Batches of positions without end, all ways over the same images."""

    def __init__(self, images: int, backgrounds: int) -> None:
        self._images, self._backgrounds = images, backgrounds

    def __iter__(self) -> Iterator[list[Position]]:
        sample = 0
        while True:
            batch = []
            for _ in range(BATCH):
                rng = counters.generator(0, counters.FOREGROUND_ORDER, 0, sample)
                foreground, *others = rng.integers(self._images, size=3).tolist()
                batch.append(Position(0, sample, foreground, tuple(others[: self._backgrounds])))
                sample += 1
            yield batch


def bench_data(
    paths: Sequence[Path] | None = None,
    seconds: float = 60.0,
    rounds: int = ROUNDS,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure, print a small table through `say`, and return the figures.

    Args:
        paths: photographs; None: synthetic ones of 500 x 375 pixels are made first.
        seconds: for everything; shared by `rounds` turns of each of the four ways.

    Returns:
        `samples_per_second` (median of the rounds), `rounds` (each of them), `speedup` over the
        published recipe, `device_ms_per_sample` (what is left to the device), and the machine.

    Raises:
        UserError: an empty list of paths, or fewer than one round.
    """
    if rounds < 1 or (paths is not None and not paths):
        raise UserError(
            f"bench data: {rounds} rounds over {'synthetic' if paths is None else len(paths)} "
            "images; it needs one round and one image at least"
        )
    with tempfile.TemporaryDirectory() as folder:
        files = write_photographs(Path(folder), SYNTHETIC) if paths is None else list(paths)
        figures = _measure(files, seconds / (rounds * len(WAYS)), rounds)
    figures["images"] = f"{len(files)} {'synthetic' if paths is None else 'given'}"
    _print(figures, say)
    return figures


def _measure(paths: list[Path], turn: float, rounds: int) -> dict[str, Any]:
    own = _settings("permutation")
    rolled = _settings("batch")
    datasets: dict[str, tuple[Dataset[Any], int]] = {
        "published": (PublishedRecipe(paths, own), 2),
        "ours": (PretrainDataset(paths, own, seed=0), 2),
        "ours-batch-background": (PretrainDataset(paths, rolled, seed=0), 0),
        "decode-only": (DecodeOnly(paths), 0),
    }
    loaders = {
        name: iter(
            DataLoader(
                dataset,
                batch_sampler=_Endless(len(paths), backgrounds),
                num_workers=1,
                prefetch_factor=PREFETCH,
            )
        )
        for name, (dataset, backgrounds) in datasets.items()
    }
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, loader in loaders.items():
            rates[name].append(_rate(loader, turn))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "samples_per_second": medians,
        "rounds": rates,
        "speedup": {name: medians[name] / medians["published"] for name in WAYS[1:3]},
        "device_ms_per_sample": {
            "ours": _device_share(next(loaders["ours"]), own, device),
            "ours-batch-background": _device_share(
                next(loaders["ours-batch-background"]), rolled, device
            ),
        },
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "cpu": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
    }


def _settings(background: Any) -> Cp2Settings:
    return Cp2Settings(name="bench", title="", kind="cp2", background=background, optimizer={})


def _rate(loader: Iterator[Any], seconds: float) -> float:
    """Samples a second of the loader's one worker."""
    for _ in range(PREFETCH + 1):
        next(loader)
    batches, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds or batches == 0:
        next(loader)
        batches += 1
    return batches * BATCH / (time.perf_counter() - start)


def _device_share(batch: ViewBatch, settings: Cp2Settings, device: torch.device) -> float:
    """Milliseconds a sample of augmentation and composition, median of five batches."""
    times = []
    for _ in range(6):
        start = time.perf_counter()
        prepare(batch, settings, device)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1000 / BATCH)
    return statistics.median(times[1:])


def _print(figures: dict[str, Any], say: Callable[[str], None]) -> None:
    say(f"{figures['images']} images, one worker core ({figures['cpu']})")
    say(f"{'way':<24}{'samples/s':>10}{'x published':>13}{'device ms/sample':>18}")
    for name, rate in figures["samples_per_second"].items():
        speedup = figures["speedup"].get(name)
        share = figures["device_ms_per_sample"].get(name)
        factor = "" if speedup is None else f"{speedup:.1f}"
        device = "" if share is None else f"{share:.2f} ({figures['device']})"
        say(f"{name:<24}{rate:>10.0f}{factor:>13}{device:>18}")

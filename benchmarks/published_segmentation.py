"""A plain finetuning and evaluation: PIL and numpy on the CPU, float32, NCHW, eager.

The training transforms are mmsegmentation's, as CP²'s release uses them, in their order: resize,
crop, flip, photometric distortion, normalisation, padding. Written from their description. The
evaluation takes one image after the other and counts predictions on the CPU.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from cp2.augment.photometric import IMAGENET_MEAN, IMAGENET_STD
from cp2.data.labels import IGNORE
from cp2.data.pillow import open_image
from cp2.settings.protocols.segmentation import FinetuneAugmentation

Pixels = npt.NDArray[np.float32]
CROPS = 10
_MEAN, _STD = (255 * np.array(v, dtype=np.float32) for v in (IMAGENET_MEAN, IMAGENET_STD))


class PublishedLabelled(Dataset[tuple[Tensor, Tensor]]):
    """Image float32 (3, H, W) and label int64 (H, W), augmented."""

    def __init__(self, pairs: Sequence[tuple[Path, Path]], settings: FinetuneAugmentation) -> None:
        self._pairs, self._settings = list(pairs), settings

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        settings = self._settings
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        with open_image(self._pairs[index][0]) as file:
            image = file.convert("RGB")
        with open_image(self._pairs[index][1]) as file:
            label = file.copy()
        size = _resized(image.size, settings, rng)
        pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
        classes = np.asarray(label.resize(size, Image.Resampling.NEAREST))
        pixels, classes = _crop(pixels, classes, settings, rng)
        if rng.random() < settings.flip_probability:
            pixels, classes = pixels[:, ::-1], classes[:, ::-1]
        pixels = _distort(pixels, settings, rng)
        pixels = (pixels - _MEAN) / _STD
        below = settings.crop[0] - classes.shape[0]
        beside = settings.crop[1] - classes.shape[1]
        pixels = np.pad(pixels, ((0, below), (0, beside), (0, 0)))
        classes = np.pad(classes, ((0, below), (0, beside)), constant_values=IGNORE)
        channels_first = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return torch.from_numpy(channels_first), torch.from_numpy(classes.astype(np.int64))


def published_labelled_batches(
    dataset: PublishedLabelled, batch_size: int, workers: int, pin: bool
) -> "DataLoader[tuple[Tensor, Tensor]]":
    return DataLoader(
        dataset, batch_size, shuffle=True, num_workers=workers, pin_memory=pin, drop_last=True
    )


def published_segmentation_terms(
    model: nn.Module, images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Cross entropy at the labels' size, mean over all pixels, and the pixel accuracy."""
    logits = F.interpolate(model(images), labels.shape[1:], mode="bilinear", align_corners=False)
    loss = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").mean()
    labelled = labels != IGNORE
    accuracy = (logits.argmax(1) == labels)[labelled].float().mean()
    return {"loss": loss, "accuracy": accuracy}


def _resized(
    size: tuple[int, int], settings: FinetuneAugmentation, rng: np.random.Generator
) -> tuple[int, int]:
    ratio = rng.uniform(*settings.scale)
    short, long = (int(side * ratio) for side in settings.resize)
    scale = min(long / max(size), short / min(size))
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def _crop(
    pixels: Pixels,
    classes: npt.NDArray[np.uint8],
    settings: FinetuneAugmentation,
    rng: np.random.Generator,
) -> tuple[Pixels, npt.NDArray[np.uint8]]:
    height, width = settings.crop
    for _ in range(CROPS + 1):
        top = int(rng.integers(max(classes.shape[0] - height, 0) + 1))
        left = int(rng.integers(max(classes.shape[1] - width, 0) + 1))
        window = (slice(top, top + height), slice(left, left + width))
        values, counts = np.unique(classes[window], return_counts=True)
        counts = counts[values != IGNORE]
        if len(counts) > 1 and counts.max() / counts.sum() < settings.cat_max_ratio:
            break
    return pixels[window], classes[window]


def _distort(pixels: Pixels, settings: FinetuneAugmentation, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast, saturation and hue, each or not, in mmsegmentation's order."""

    def happens() -> bool:
        return bool(rng.random() < settings.photometric_probability)

    if happens():
        pixels = _rounded(pixels + rng.uniform(-settings.brightness, settings.brightness))
    contrast_first = rng.random() < 0.5
    if contrast_first and happens():
        pixels = _rounded(pixels * rng.uniform(*settings.contrast))
    if happens():
        pixels = _in_hsv(pixels, 1, rng.uniform(*settings.saturation), 0)
    if happens():
        pixels = _in_hsv(pixels, 0, 1, rng.uniform(-settings.hue, settings.hue) / 180 * 256)
    if not contrast_first and happens():
        pixels = _rounded(pixels * rng.uniform(*settings.contrast))
    return pixels


def _rounded(pixels: Pixels) -> Pixels:
    return pixels.clip(0, 255).astype(np.uint8).astype(np.float32)


def _in_hsv(pixels: Pixels, channel: int, factor: float, shift: float) -> Pixels:
    hsv = np.array(Image.fromarray(pixels.astype(np.uint8)).convert("HSV"))
    changed = hsv[:, :, channel].astype(np.float32) * factor + shift
    hsv[:, :, channel] = changed % 256 if channel == 0 else changed.clip(0, 255)
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"), dtype=np.float32)


class PublishedVal(Dataset[tuple[Tensor, Tensor]]):
    """Image float32 (3, h, w), fitted into `resize`, and label int64 (H, W)."""

    def __init__(self, pairs: Sequence[tuple[Path, Path]], resize: tuple[int, int]) -> None:
        self._pairs, self._resize = list(pairs), resize

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        with open_image(self._pairs[index][0]) as file:
            image = file.convert("RGB")
        with open_image(self._pairs[index][1]) as file:
            label = torch.from_numpy(np.array(file)).long()
        scale = min(self._resize[1] / max(image.size), self._resize[0] / min(image.size))
        width, height = (int(side * scale + 0.5) for side in image.size)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        scaled = (pixels.astype(np.float32) - _MEAN) / _STD
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1))), label


@torch.no_grad()
def published_evaluate(
    model: nn.Module,
    dataset: PublishedVal,
    classes: int,
    workers: int,
    device: torch.device,
) -> npt.NDArray[np.int64]:
    """Confusion matrix (classes, classes): rows are labels."""
    total = np.zeros((classes, classes), dtype=np.int64)
    for image, label in DataLoader(dataset, batch_size=1, num_workers=workers):
        logits = model(image.to(device))
        logits = F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)
        logits = F.interpolate(logits, label.shape[1:], mode="bilinear", align_corners=False)
        prediction = logits.softmax(1).argmax(1).cpu().numpy()
        counted = label.numpy() != IGNORE
        pairs = label.numpy()[counted] * classes + prediction[counted]
        total += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return total

"""From labelled image files to the batches of finetuning.

The workers decode, resize and crop (uint8) and draw every random number; the device does the rest
for the whole batch. Sample p of the endless stream is a function of (seed, p) alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cp2.augment.distortion import distort, draw_distortion, normalize
from cp2.augment.geometry import draw_view, pad
from cp2.data.decoded import DecodedPairs
from cp2.data.images import decode_rgb
from cp2.data.labels import IGNORE, decode_label
from cp2.data.loading import Batches
from cp2.drawing import counters
from cp2.errors import UserError, WrongFile
from cp2.settings.protocols.segmentation import FinetuneAugmentation, Normalization


class LabelledPair(NamedTuple):
    """Files of one labelled image."""

    image: Path
    label: Path


class LabelledBatch(NamedTuple):
    """What the workers hand over; without the leading N it is one sample."""

    images: Tensor  # uint8 (N, H, W, 3), padded with 0
    labels: Tensor  # uint8 (N, H, W), padded with IGNORE
    sizes: Tensor  # int64 (N, 2): height and width before padding
    parameters: Tensor  # float32 (N, distortion.PARAMETERS), stays on the host


def decode_pair(pair: LabelledPair) -> tuple[Tensor, Tensor]:
    """Image uint8 (3, H, W), turned as its EXIF says where the label is, and label uint8 (H, W).

    Raises:
        WrongFile: a file cannot be read, or the two differ in size.
    """
    label = decode_label(pair.label)
    image = decode_rgb(pair.image, like=label.shape)
    if image.shape[1:] != label.shape:
        raise WrongFile(
            f"{pair.label} is {label.shape[0]} x {label.shape[1]} pixels (height x width), but its "
            f"image {pair.image} is {image.shape[1]} x {image.shape[2]}; they must be alike. "
            "Put the right file in its place, or prepare the data set again."
        )
    return image, label


class FinetuneDataset(Dataset[LabelledBatch]):
    """Augmented samples by their position in the stream, an endless row of seeded permutations.

    Args:
        decoded: where decoded images stay, shared by the workers; None: nowhere.

    Raises:
        UserError: there is no image.
    """

    def __init__(
        self,
        pairs: Sequence[LabelledPair],
        settings: FinetuneAugmentation,
        seed: int,
        decoded: DecodedPairs | None = None,
    ) -> None:
        if not pairs:
            raise UserError("finetuning: the data set's training split holds no image")
        # One array and no list of objects: forked workers then share its memory for good.
        self._paths = np.array([[os.fsencode(path) for path in pair] for pair in pairs])
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))
        self.decoded = decoded or DecodedPairs(len(pairs), 0)
        self.settings = settings
        self.seed = seed

    def __len__(self) -> int:
        return len(self._paths)

    def image_at(self, position: int) -> int:
        """Index of the image that stands at `position` of the stream."""
        epoch, offset = divmod(position, len(self))
        if self._order[0] != epoch:
            order = counters.permutation(len(self), self.seed, counters.FINETUNE_ORDER, epoch)
            self._order = (epoch, order)
        return int(self._order[1][offset])

    def _pixels(self, index: int) -> tuple[Tensor, Tensor]:
        known = self.decoded.get(index)
        if known is None:
            known = decode_pair(LabelledPair(*(Path(os.fsdecode(p)) for p in self._paths[index])))
            self.decoded.put(index, *known)
        return known

    def __getitem__(self, position: int) -> LabelledBatch:
        image, label = self._pixels(self.image_at(position))
        rng = counters.generator(self.seed, counters.FINETUNE_SAMPLES, position)
        image, label = draw_view(rng, image, label, self.settings)
        parameters = draw_distortion(rng, self.settings)
        crop = self.settings.crop
        return LabelledBatch(
            pad(image, crop, 0).permute(1, 2, 0).contiguous(),
            pad(label, crop, IGNORE).contiguous(),
            torch.tensor(label.shape),
            torch.from_numpy(parameters),
        )


def finetune_batches(
    dataset: FinetuneDataset,
    first_iteration: int,
    iterations: int,
    batch_size: int,
    workers: int,
    pin: bool,
    rank: int = 0,
    world_size: int = 1,
) -> Batches[LabelledBatch]:
    """The batches `first_iteration`, ..., `iterations` - 1, all full: a small data set repeats.

    Starting anywhere decodes nothing of what came before.

    Args:
        batch_size: over all processes, of which it is a multiple; each gets its share.
        pin: hand over pinned memory, for a GPU.
    """
    share = batch_size // world_size
    first = first_iteration * batch_size + rank * share
    positions = [range(at, at + share) for at in range(first, iterations * batch_size, batch_size)]
    return Batches(dataset, workers, pin, batch_sampler=positions)


def prepare_labelled(
    batch: LabelledBatch, device: torch.device | str, normalization: Normalization = "imagenet"
) -> tuple[Tensor, Tensor]:
    """The device's share: photometric distortion, normalisation, padding with 0 (the mean).

    Returns:
        Images float32 (N, 3, H, W), channels last in memory, and labels int64 (N, H, W).
    """
    crops = batch.images.to(device, non_blocking=True).permute(0, 3, 1, 2)
    labels = batch.labels.to(device, non_blocking=True).long()
    with torch.autocast(crops.device.type, enabled=False):  # pixels stay float32
        images = normalize(distort(crops.float().div_(255), batch.parameters), normalization)
        if bool((batch.sizes != torch.tensor(labels.shape[1:])).any()):
            images = images * _inside(batch.sizes.to(device, non_blocking=True), crops)
    return images, labels


def _inside(sizes: Tensor, crops: Tensor) -> Tensor:
    """1 where the picture is, 0 in the padding: (N, 1, H, W)."""
    height, width = crops.shape[-2:]
    rows = torch.arange(height, device=crops.device) < sizes[:, :1]
    columns = torch.arange(width, device=crops.device) < sizes[:, 1:]
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()

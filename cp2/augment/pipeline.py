"""From image files to the two views (and masks) of a pretraining step.

The workers decode and crop (uint8) and draw every random number; the device does the rest for the
whole batch. Sample i of epoch e is a function of (seed, e, i) alone.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from cp2.augment.copy_paste import compose, pastes, unpack
from cp2.augment.photometric import augment_views
from cp2.augment.samples import PretrainDataset, SampleSpec, ViewBatch
from cp2.data.loading import Batches
from cp2.drawing import counters
from cp2.errors import UserError
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.methods import CopyPasteSettings

# With `background: batch`, sample i is pasted onto the images of samples i + 1 (query) and i + 2
# (key) of the batch, so that the two backgrounds differ from each other and from the foreground.
BATCH_SHIFTS = (1, 2)


class PreparedBatch(NamedTuple):
    """The input of a method: normalised float32 images (N, 3, S, S), masks (N, 1, S, S)."""

    images_q: Tensor
    images_k: Tensor
    mask_q: Tensor | None
    mask_k: Tensor | None
    view_boxes: Tensor  # int64 (N, 2, 7), of query and key; see cp2.augment.view_boxes

    def swapped(self) -> "PreparedBatch":
        """The same with the views' roles exchanged."""
        return PreparedBatch(
            self.images_k, self.images_q, self.mask_k, self.mask_q, self.view_boxes.flip(1)
        )


class PretrainSampler(Sampler[list[SampleSpec]]):
    """The batches from `first_step` of `epoch` on, this process' share of each.

    In an epoch each image is once the foreground and once the background of either side: with
    `background: permutation` by three independent permutations of the data set (released code),
    with `batch` by one, in which the batch's other samples lend their images.
    """

    def __init__(
        self,
        dataset: PretrainDataset,
        epoch: int,
        first_step: int,
        batch_size: int,
        rank: int,
        world_size: int,
        epochs: int | None = None,
    ) -> None:
        self._dataset = dataset
        self._an_epoch = len(dataset) // batch_size
        last = epoch + 1 if epochs is None else epochs
        self._steps = range(epoch * self._an_epoch + first_step, last * self._an_epoch)
        self._batch_size = batch_size
        self._share = batch_size // world_size
        self._rank = rank

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[SampleSpec]]:
        known, orders = -1, np.empty(0)
        for number in self._steps:
            epoch, step = divmod(number, self._an_epoch)
            if epoch != known:
                known, orders = epoch, _orders(self._dataset, epoch, self._batch_size)
            start = step * self._batch_size + self._rank * self._share
            rows = orders[start : start + self._share].tolist()
            yield [
                SampleSpec(epoch, start + offset, row[0], tuple(row[1:]))
                for offset, row in enumerate(rows)
            ]


def _orders(dataset: PretrainDataset, epoch: int, batch_size: int) -> np.ndarray:
    """Image of each sample and of its backgrounds, (images, 1 or 3) int64."""
    settings, seed, n = dataset.settings, dataset.seed, len(dataset)
    foregrounds = counters.permutation(n, seed, counters.FOREGROUND_ORDER, epoch)
    if not pastes(settings):
        return foregrounds[:, None]
    if settings.background == "batch":
        whole = foregrounds[: n - n % batch_size].reshape(-1, batch_size)
        backgrounds = [np.roll(whole, -shift, axis=1).ravel() for shift in BATCH_SHIFTS]
        return np.stack([whole.ravel(), *backgrounds], axis=1)
    streams = (counters.BACKGROUND_QUERY_ORDER, counters.BACKGROUND_KEY_ORDER)
    backgrounds = [counters.permutation(n, seed, stream, epoch) for stream in streams]
    return np.stack([foregrounds, *backgrounds], axis=1)


def batches(
    dataset: PretrainDataset,
    epoch: int,
    first_step: int,
    batch_size: int,
    workers: int,
    pin: bool,
    rank: int = 0,
    world_size: int = 1,
    epochs: int | None = None,
) -> Batches[ViewBatch]:
    """The batches from `first_step` of `epoch` on; incomplete last batches are dropped.

    Starting in the middle of an epoch decodes nothing of what came before. One loader serves all
    epochs, so that no epoch begins by starting workers and waiting for their first images.

    Args:
        epochs: of the whole run; None: those of `epoch` alone.
        batch_size: over all processes; each gets its share.
        pin: hand over pinned memory, for a GPU.

    Raises:
        UserError: fewer images than a batch, or a batch size that does not suit.
    """
    check_batch_size(dataset, batch_size, world_size)
    sampler = PretrainSampler(dataset, epoch, first_step, batch_size, rank, world_size, epochs)
    return Batches(dataset, workers, pin, batch_sampler=sampler, collate_fn=dataset.collate)


def check_batch_size(dataset: PretrainDataset, batch_size: int, world_size: int) -> None:
    """Refuse what would give no step, or no other image to paste onto.

    Raises:
        UserError: fewer images than a batch, or a batch size that does not suit.
    """
    if batch_size > len(dataset):
        raise UserError(
            f"batch_size {batch_size} is more than the {len(dataset)} training images, so an epoch "
            f"would have no step; use batch_size {len(dataset)} or less, or more images"
        )
    if batch_size % world_size:
        raise UserError(
            f"batch_size {batch_size} cannot be shared evenly by {world_size} processes; "
            f"use a multiple of {world_size}"
        )


def prepare(
    batch: ViewBatch, settings: PretrainingSettings, device: torch.device | str
) -> PreparedBatch:
    """The device's share: photometric augmentation and composition with backgrounds (CP² Eq. 1)."""
    batch = batch.to(device)
    # All views at once: (V, N, ...), so that each view lies in one piece.
    crops = batch.crops.transpose(0, 1).flatten(0, 1).permute(0, 3, 1, 2)
    with torch.autocast(crops.device.type, enabled=False):  # pixels stay float32
        images = augment_views(crops, batch.parameters.transpose(0, 1).flatten(0, 1))
    views = images.unflatten(0, (-1, len(batch.crops)))
    if not isinstance(settings, CopyPasteSettings):
        return PreparedBatch(views[0], views[1], None, None, batch.view_boxes)
    if not pastes(settings):
        everything = torch.ones_like(views[0][:, :1])
        return PreparedBatch(views[0], views[1], everything, everything, batch.view_boxes)
    masks = [unpack(batch.masks[:, side], settings.views.crop_size) for side in range(2)]
    composed = [compose(views[side], views[2 + side], masks[side]) for side in range(2)]
    return PreparedBatch(composed[0], composed[1], masks[0], masks[1], batch.view_boxes)

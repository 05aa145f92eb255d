"""One pretraining sample: which images it is made of, how it is cropped, and what it hands over.

Sample i of epoch e is a function of (seed, e, i) and the images' files alone.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from cp2.augment.copy_paste import pack, pastes
from cp2.augment.view_boxes import view_box
from cp2.augment.views import FLIP, crop, draw_photometric
from cp2.data.attention_maps import AttentionMaps
from cp2.data.sources import ImageFiles, ImageSource, OpenImage, scale_box, scale_for
from cp2.drawing import counters
from cp2.drawing.attention import attention_mask
from cp2.drawing.crops import Box, draw_crop, draw_second_crop
from cp2.drawing.masks import draw_masks
from cp2.errors import UserError, WrongFile
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.masks import DinoMaskSettings

REPLACEMENTS = 10  # images in a row that may be unreadable before the run stops
POOL = 32  # decoded images that wait for their second use in a batch, at most


class SampleSpec(NamedTuple):
    """One sample's address and the images it is made of."""

    epoch: int
    sample: int  # position in the epoch
    foreground: int  # index of the image
    backgrounds: tuple[int, ...]  # of the query and of the key; empty where not needed

    @property
    def images(self) -> tuple[int, ...]:
        return (self.foreground, *self.backgrounds)


class ViewBatch(NamedTuple):
    """What the workers hand over; without the leading N it is one sample.

    A named tuple, because the data loader collates and pins those field by field.
    """

    crops: Tensor  # uint8 (N, V, S, S, 3): query, key[, query background, key background]
    parameters: Tensor  # float32 (N, V, PARAMETERS), stays on the host
    masks: Tensor  # uint8 (N, 2, S, ceil(S / 8)): foreground of query and key, a bit a pixel
    view_boxes: Tensor  # int64 (N, 2, 7), of query and key; see view_boxes.py
    images: Tensor  # int64 (N,): index of the foreground image
    unreadable: Tensor  # int64 (N, 1 or 3): images that were replaced by others, else -1

    def to(self, device: torch.device | str) -> "ViewBatch":
        """Crops, masks and boxes moved, without waiting where they are pinned."""
        return self._replace(
            crops=self.crops.to(device, non_blocking=True),
            masks=self.masks.to(device, non_blocking=True),
            view_boxes=self.view_boxes.to(device, non_blocking=True),
        )


# Images and boxes of the views, and the images that are open -> what is handed over as `crops`.
Cut = Callable[[Sequence[int], Sequence[Box], Mapping[int, OpenImage]], Tensor]


class _UnreadableError(Exception):
    def __init__(self, index: int, error: WrongFile) -> None:
        super().__init__(str(error))
        self.index, self.error = index, error


class ImagePool:
    """Images that are open, each for as long as the samples of one batch need it."""

    def __init__(self, source: ImageSource, specs: Sequence[SampleSpec]) -> None:
        self._source = source
        self._uses = Counter(index for spec in specs for index in spec.images)
        self._open: dict[int, OpenImage] = {}

    def pixels(self, image: OpenImage, index: int, scale: int) -> Tensor:
        try:
            return image.pixels(scale)
        except WrongFile as error:
            raise _UnreadableError(index, error) from None

    def open(self, index: int) -> OpenImage:
        image = self._open.get(index)
        if image is None:
            try:
                image = self._source.open(index)
            except WrongFile as error:
                raise _UnreadableError(index, error) from None
            if len(self._open) < POOL:
                self._open[index] = image
        return image

    def release(self, indices: Sequence[int]) -> None:
        """A sample has used these."""
        for index in indices:
            self._uses[index] -= 1
            if self._uses[index] <= 0:
                self._open.pop(index, None)


class PretrainDataset(Dataset[ViewBatch]):
    """Crops and drawn parameters of the samples that a `PretrainSampler` names.

    Args:
        source: where pixels come from; paths are read as files.
        maps: attention of each image, for masks of kind dino.
    Raises:
        UserError: there is no image, or no map of each where masks are cut by attention.
    """

    def __init__(
        self,
        source: ImageSource | Sequence[Path],
        settings: PretrainingSettings,
        seed: int,
        maps: AttentionMaps | None = None,
    ) -> None:
        if not len(source):
            raise UserError("pretraining: the data set's training split holds no image")
        if isinstance(source, Sequence):
            reading = settings.reading
            source = ImageFiles(source, reading.scaled, header_first=reading.decoder == "device")
        self.source: ImageSource = source
        self.settings = settings
        self.seed = seed
        self.maps = maps
        if pastes(settings) and settings.mask.kind == "dino" and len(maps or ()) != len(self):
            raise UserError(
                f"mask.kind dino needs the attention map of each of the {len(self)} images, found "
                f"{len(maps or ())}; the stage `masks` makes them (cp2 plan --stage masks)"
            )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, spec: SampleSpec) -> ViewBatch:
        return self.__getitems__([spec])[0]

    def __getitems__(self, specs: Sequence[SampleSpec]) -> list[ViewBatch]:
        """The samples of one batch; an image that several of them need is decoded once."""
        pool = ImagePool(self.source, specs)
        return [self.sample(spec, pool, partial(self._crops, pool)) for spec in specs]

    def collate(self, samples: list[ViewBatch]) -> ViewBatch:
        """Samples that `__getitems__` returned, as a batch."""
        batch: ViewBatch = default_collate(samples)
        return batch

    def sample(self, spec: SampleSpec, pool: ImagePool, cut: Cut) -> ViewBatch:
        """The sample, with other images in the place of those that cannot be read."""
        found = dict(zip(spec.images, spec.images, strict=True))
        others: dict[int, Iterator[int]] = {}
        while True:
            images = tuple(found[index] for index in spec.images)
            try:
                crops, parameters, masks, view_boxes = self._views(spec, images, pool, cut)
                break
            except _UnreadableError as broken:
                if self.settings.reading.unreadable == "stop":
                    raise broken.error from None
                for index in [key for key, value in found.items() if value == broken.index]:
                    candidates = others.setdefault(index, self._replacements(spec, index))
                    found[index] = self._next(candidates, broken)
            finally:
                pool.release(images)
        return ViewBatch(
            crops,
            torch.from_numpy(np.stack(parameters)),
            masks,
            view_boxes,
            torch.tensor(images[0]),
            torch.tensor([-1 if found[i] == i else i for i in spec.images]),
        )

    def _replacements(self, spec: SampleSpec, index: int) -> Iterator[int]:
        """Images that stand in for an unreadable one, the same ones throughout an epoch."""
        rng = counters.generator(self.seed, counters.REPLACEMENTS, spec.epoch, index)
        return iter(rng.integers(len(self), size=REPLACEMENTS).tolist())

    def _next(self, candidates: Iterator[int], broken: _UnreadableError) -> int:
        index = next(candidates, None)
        if index is None:
            raise WrongFile(
                f"{broken.error}\nSo were {REPLACEMENTS} others in a row: is the data set's folder "
                "still there?"
            )
        return index

    def _views(
        self, spec: SampleSpec, images: tuple[int, ...], pool: ImagePool, cut: Cut
    ) -> tuple[Tensor, list[np.ndarray], Tensor, Tensor]:
        """What `cut` makes of the views, photometric parameters, packed masks, view boxes."""
        views = self.settings.views
        rng = counters.generator(self.seed, counters.VIEWS, spec.epoch, spec.sample)
        indices = (images[0], *images)  # the foreground is seen twice
        opened = {index: pool.open(index) for index in images}
        boxes: list[Box] = []
        parameters = []
        for view, index in enumerate(indices):
            height, width = opened[index].height, opened[index].width
            if view == 1 and views.min_overlap:
                boxes = [*draw_second_crop(rng, height, width, views, boxes[0])]
            else:
                boxes.append(draw_crop(rng, height, width, views.crop_scale, views.crop_ratio))
            parameters.append(draw_photometric(rng, views.of(view)))
        crops = cut(indices, boxes, opened)
        extent = (opened[images[0]].height, opened[images[0]].width)
        masks = self._masks(spec, images[0], extent, boxes, parameters)
        pairs = zip(boxes[:2], parameters[:2], strict=True)
        view_boxes = [view_box(box, row, extent) for box, row in pairs]
        return crops, parameters, masks, torch.tensor(view_boxes)

    def _crops(
        self,
        pool: ImagePool,
        indices: Sequence[int],
        boxes: Sequence[Box],
        opened: Mapping[int, OpenImage],
    ) -> Tensor:
        """The views' pixels, (V, S, S, 3)."""
        size, mode = self.settings.views.crop_size, self.settings.views.interpolation
        crops = torch.empty(len(indices), size, size, 3, dtype=torch.uint8)
        for view, (index, box) in enumerate(zip(indices, boxes, strict=True)):
            own = [other for i, other in zip(indices, boxes, strict=True) if i == index]
            scale = scale_for(own, size) if self.source.scaled else 1
            pixels = pool.pixels(opened[index], index, scale)
            box = scale_box(box, opened[index], pixels)
            crops[view].copy_(crop(pixels, box, size, mode).permute(1, 2, 0))
        return crops

    def _masks(
        self,
        spec: SampleSpec,
        foreground: int,
        extent: tuple[int, int],
        boxes: Sequence[Box],
        parameters: Sequence[np.ndarray],
    ) -> Tensor:
        """The packed masks of query and key, (2, S, ceil(S / 8)); none without copy-paste."""
        size = self.settings.views.crop_size
        if not pastes(self.settings):
            return torch.empty(0, size, 0, dtype=torch.uint8)
        mask = self.settings.mask
        if isinstance(mask, DinoMaskSettings):
            assert self.maps is not None
            ranks = self.maps[foreground]
            masks = np.stack(
                [
                    attention_mask(ranks, extent, box, bool(row[FLIP]), size, mask)
                    for box, row in zip(boxes[:2], parameters[:2], strict=True)
                ]
            )
        else:
            rng = counters.generator(self.seed, counters.MASKS, spec.epoch, spec.sample)
            masks = draw_masks(rng, 2, size, mask)
        return torch.from_numpy(pack(masks))

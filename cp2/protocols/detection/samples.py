"""Training and test images of a detector: resized, flipped, batched by aspect."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cp2.augment.geometry import fitted_size
from cp2.data.annotations import ImageObject, read_objects
from cp2.data.images import decode_rgb
from cp2.data.loading import Batches
from cp2.data.pillow import open_image, reading
from cp2.drawing import counters
from cp2.errors import UserError
from cp2.protocols.detection.masks import Mask, decoded
from cp2.protocols.detection.rpn import Size
from cp2.settings.protocols.detection import DetectionTraining

LEAST_SIDE = 1e-5  # pixels of a box that is learned from


class Sample(NamedTuple):
    """One training image.

    Attributes:
        image: uint8 (3, h, w), as the network sees it.
        boxes: float32 (G, 4) in its pixels.
        classes: int64 (G,).
        seeds: (2,) of its samples of anchors and of regions.
        masks: of each object in the image's pixels, where masks are learned.
    """

    image: Tensor
    boxes: Tensor
    classes: Tensor
    seeds: Tensor
    masks: list[Mask]


def resize(image: Tensor, size: Size) -> Tensor:
    """uint8 (3, H, W) at another size, bilinear and antialiased as Pillow does it."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    resized = np.array(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return torch.from_numpy(resized).permute(2, 0, 1)


def moved(
    points: npt.NDArray[np.float64], before: Size, after: Size, flip: bool
) -> npt.NDArray[np.float64]:
    """Points (..., 2) of an image that is resized, then mirrored."""
    scale = np.array([after[1] / before[1], after[0] / before[0]])
    points = points * scale
    if flip:
        points[..., 0] = after[1] - points[..., 0]
    return points


def moved_boxes(
    boxes: npt.NDArray[np.float64], before: Size, after: Size, flip: bool
) -> npt.NDArray[np.float64]:
    """Boxes (G, 4) of an image that is resized, then mirrored; cut at its ends."""
    corners = moved(boxes.reshape(-1, 2, 2), before, after, flip)
    corners = corners.clip(0, [after[1], after[0]])
    return np.concatenate([corners.min(1), corners.max(1)], 1)


def as_arrays(
    objects: Sequence[ImageObject], classes: Sequence[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Boxes (G, 4) and classes (G,); difficult ones too."""
    boxes = np.array([one.box for one in objects], np.float64).reshape(-1, 4)
    return boxes, np.array([classes.index(one.name) for one in objects], np.int64)


def moved_mask(mask: Any, before: Size, after: Size, flip: bool) -> Mask:
    """A mask of COCO in an image that is resized, then mirrored: its polygons, or its pixels."""
    if isinstance(mask, list):
        points = (np.array(one, np.float64).reshape(-1, 2) for one in mask)
        return [moved(one, before, after, flip).ravel() for one in points]
    picture = Image.fromarray(decoded(mask, before))
    resized = np.array(picture.resize((after[1], after[0]), Image.Resampling.NEAREST))
    return torch.from_numpy(resized[:, ::-1].copy() if flip else resized)


class DetectionImages(Dataset[Sample]):
    """Training images with their boxes, as (epoch, image) asks for them.

    Crowds are not learned from, nor objects without area, nor images without an object.

    Args:
        masks: learn masks, too, of objects that have one.

    Attributes:
        wide: which images are wider than high.
        maskless: objects that are not learned from, as they have no mask.
    """

    def __init__(
        self,
        images: Sequence[Path],
        annotations: Sequence[Path],
        classes: Sequence[str],
        settings: DetectionTraining,
        seed: int,
        masks: bool = False,
    ) -> None:
        self._settings, self._seed, self._names, self._masks = settings, seed, classes, masks
        self._images: list[Path] = []
        self._annotations: list[Path] = []
        self._boxes, self._classes = [], []
        self.maskless = 0
        wide = []
        for image, annotation in zip(images, annotations, strict=True):
            objects = self._objects(annotation)
            learned = self._with_masks(objects)
            self.maskless += len(objects) - len(learned)
            boxes, named = as_arrays(learned, classes)
            if not len(boxes):
                continue
            with reading(image), open_image(image) as header:
                wide.append(header.width > header.height)
            self._images.append(image)
            self._annotations.append(annotation)
            self._boxes.append(boxes)
            self._classes.append(named)
        if not wide:
            what = "object with a mask" if masks else "object"
            raise UserError(f"no training image has an {what}; a detector learns from boxes")
        self.wide = np.array(wide)

    def _objects(self, annotation: Path) -> list[ImageObject]:
        return [
            one
            for one in read_objects(annotation, self._names)
            if not one.crowd and one.box[0] < one.box[2] and one.box[1] < one.box[3]
        ]

    def _with_masks(self, objects: list[ImageObject]) -> list[ImageObject]:
        """Those with a mask, where masks are learned."""
        return [one for one in objects if one.mask] if self._masks else objects

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: tuple[int, int]) -> Sample:
        epoch, index = place
        rng = counters.generator(self._seed, counters.DETECTION_SAMPLES, epoch, index)
        short = int(rng.choice(self._settings.short_sides))
        flip = bool(rng.random() < 0.5)
        seeds = rng.integers(2**63, size=2)
        image = decode_rgb(self._images[index])
        before: Size = (image.shape[1], image.shape[2])
        after = fitted_size(*before, (short, self._settings.long_side))
        image = resize(image, after)
        boxes = moved_boxes(self._boxes[index], before, after, flip)
        kept = (boxes[:, 2:] - boxes[:, :2] > LEAST_SIDE).all(1)
        masks: list[Mask] = []
        if self._masks:  # read again: those of all images would fill the memory
            objects = self._with_masks(self._objects(self._annotations[index]))
            rows = np.flatnonzero(kept).tolist()
            masks = [moved_mask(objects[row].mask, before, after, flip) for row in rows]
        return Sample(
            image.flip(2) if flip else image,
            torch.from_numpy(boxes[kept]).float(),
            torch.from_numpy(self._classes[index][kept]),
            torch.from_numpy(seeds),
            masks,
        )


def grouped_batches(
    wide: npt.NDArray[np.bool_], batch_size: int, seed: int
) -> Iterator[list[tuple[int, int]]]:
    """Batches of (epoch, image) for ever, each of wide or of high images only.

    Images come epoch by epoch in a new order; a batch is full when so many of one shape have come.
    """
    waiting: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    epoch = 0
    while True:
        for index in counters.permutation(
            len(wide), seed, counters.DETECTION_ORDER, epoch
        ).tolist():
            group = waiting[bool(wide[index])]
            group.append((epoch, index))
            if len(group) == batch_size:
                yield group.copy()
                group.clear()
        epoch += 1


def detection_batches(
    data: DetectionImages,
    steps: range,
    batch_size: int,
    seed: int,
    workers: int,
    pin: bool = False,
    rank: int = 0,
    processes: int = 1,
) -> Batches[list[Sample]]:
    """The batches of some steps, to be gone through once; those before are ordered, but not read.

    Args:
        batch_size: over all processes, of which it is a multiple; each gets its share.
        pin: hand over pinned memory, for a GPU.
    """
    share = batch_size // processes
    own = slice(rank * share, (rank + 1) * share)
    whole = islice(grouped_batches(data.wide, batch_size, seed), steps.start, steps.stop)
    shares = (batch[own] for batch in whole)
    return Batches(data, workers, pin, batch_sampler=shares, collate_fn=list)

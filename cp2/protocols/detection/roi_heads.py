"""Classes and boxes of regions of interest (Fast R-CNN), with detectron2's choices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, clip_boxes_to_image, roi_align

from cp2.models.distributed import add_up, world_size
from cp2.protocols.detection.boxes import (
    POSITIVE,
    Weights,
    decode,
    encode,
    match,
    overlap,
    sample,
)
from cp2.protocols.detection.rpn import Size

CODES: Weights = (10.0, 10.0, 5.0, 5.0)
REGIONS, POSITIVES, OVERLAP = 512, 0.25, 0.5  # of an image, share of objects, least overlap
SCORE, NMS, MOST = 0.05, 0.5, 100  # of detections
CANONICAL_SIZE, CANONICAL_LEVEL = 224, 4  # FPN, eq. 1


class Regions(NamedTuple):
    """Regions of one image.

    Attributes:
        boxes: (n, 4).
        classes: (n,); the number of classes stands for background.
        objects: (n,) index of the object that each one overlaps most; 0 where there is none.
    """

    boxes: Tensor
    classes: Tensor
    objects: Tensor


@dataclass(frozen=True)
class Detections:
    """What was found in one image, the best first.

    Attributes:
        boxes: (n, 4).
        scores, classes: (n,).
        masks: (n, 28, 28) probabilities within each box, if the detector has a mask head.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: Tensor | None = None


class BoxPredictor(nn.Module):
    """Features (R, channels) -> class logits (R, classes + 1), the background last, and codes
    (R, 4 * classes) of the classes' boxes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.cls_score = nn.Linear(channels, classes + 1)
        self.bbox_pred = nn.Linear(channels, 4 * classes)
        for layer, deviation in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(features), self.bbox_pred(features)


def sample_regions(
    proposals: Tensor,
    boxes: Tensor,
    classes: Tensor,
    background: int,
    count: int,
    generator: torch.Generator,
) -> Regions:
    """So many regions of one image: of proposals, and of the objects themselves."""
    proposals = torch.cat([proposals, boxes])
    index, labels = match(overlap(boxes, proposals), OVERLAP, OVERLAP, keep_best=False)
    positive, negative = sample(labels, count, POSITIVES, generator)
    chosen = torch.cat([positive, negative])
    named = torch.full_like(labels, background)
    if len(boxes):
        named = torch.where(labels == POSITIVE, classes[index], named)
    return Regions(proposals[chosen], named[chosen], index[chosen])


def box_losses(
    logits: Tensor, codes: Tensor, boxes: Tensor, classes: Tensor, objects: Tensor
) -> dict[str, Tensor]:
    """The mean cross entropy, and the L1 distance of objects' codes over all regions.

    Args:
        logits, codes: as the predictor gives them.
        boxes: (R, 4) regions.
        classes: (R,).
        objects: (R, 4) boxes of their objects.
    """
    background = logits.shape[1] - 1
    rows = (classes < background).nonzero()[:, 0]
    wanted = encode(boxes[rows], objects[rows], CODES)
    own = codes.unflatten(1, (background, 4))[rows, classes[rows]]
    count = mean_count(len(classes), logits.device)
    return {
        "loss_cls": F.cross_entropy(logits.float(), classes, reduction="sum") / count,
        "loss_box_reg": F.l1_loss(own.float(), wanted, reduction="sum") / count,
    }


def mean_count(own: int, device: torch.device) -> Tensor:
    """What a process divides its sum by, so that the mean of all processes is that of all rows."""
    total = add_up(torch.tensor(float(own), device=device))
    return (total / world_size()).clamp(min=1 / world_size())


def detect(
    boxes: Tensor, logits: Tensor, codes: Tensor, size: Size, most: int = MOST
) -> tuple[Detections, Tensor]:
    """Detections of one image, and the region (n,) that each one comes from."""
    scores = logits.float().softmax(1)[:, :-1]
    decoded = clip_boxes_to_image(decode(codes, boxes, CODES).unflatten(1, (-1, 4)), size)
    usable = decoded.isfinite().flatten(1).all(1) & scores.isfinite().all(1)
    rows, classes = ((scores > SCORE) & usable[:, None]).nonzero(as_tuple=True)
    found, values = decoded[rows, classes], scores[rows, classes]
    best = batched_nms(found, values, classes, NMS)[:most]
    return Detections(found[best], values[best], classes[best]), rows[best]


def pool(
    maps: Sequence[Tensor], strides: Sequence[int], boxes: Sequence[Tensor], size: int
) -> Tensor:
    """Features (R, channels, size, size) of regions (n, 4) of each image.

    Each is taken from the map that its area belongs to (FPN, eq. 1) at half-pixel centres, with as
    many samples as its bin has pixels.
    """
    images = torch.cat([one.new_full((len(one), 1), n) for n, one in enumerate(boxes)])
    regions = torch.cat([images, torch.cat(list(boxes))], 1)
    if len(maps) == 1:
        return _align(maps[0], regions, strides[0], size)
    level = levels(regions[:, 1:], strides)
    pooled = maps[0].new_zeros(len(regions), maps[0].shape[1], size, size)
    for number, (one, stride) in enumerate(zip(maps, strides, strict=True)):
        rows = (level == number).nonzero()[:, 0]
        pooled = pooled.index_put((rows,), _align(one, regions[rows], stride, size))
    return pooled


def _align(one: Tensor, regions: Tensor, stride: int, size: int) -> Tensor:
    # Under autocast it computes in float32; bfloat16 has whole pixels from 128 on, 4 from 512 on.
    return roi_align(one, regions, size, 1 / stride, sampling_ratio=0, aligned=True)


def levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """Which of the maps each box (R, 4) belongs to, counted from 0."""
    first, last = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
    sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = (CANONICAL_LEVEL + (sides / CANONICAL_SIZE + 1e-8).log2()).floor()
    return level.clamp(first, last).long() - first

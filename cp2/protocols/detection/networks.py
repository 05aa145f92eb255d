"""What detectors share, and Faster R-CNN on the fourth stage of a ResNet (C4)."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cp2.models.backbones import ResNetBackbone
from cp2.models.distributed import gather, world_size
from cp2.models.norm_statistics import statistics_kept
from cp2.protocols.detection.masks import Mask, MaskHead, mask_loss, mask_targets
from cp2.protocols.detection.roi_heads import (
    REGIONS,
    BoxPredictor,
    Detections,
    Regions,
    box_losses,
    detect,
    pool,
    sample_regions,
)
from cp2.protocols.detection.rpn import Kept, RegionProposals, Size, label_anchors

SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)  # of anchors


class Objects(NamedTuple):
    """The objects of one image, in pixels of what the network sees.

    Attributes:
        boxes: (G, 4).
        classes: (G,).
        masks: of each one, where masks are learned.
    """

    boxes: Tensor
    classes: Tensor
    masks: Sequence[Mask] = ()


@dataclass(frozen=True)
class Generators:
    """Where the samples of one image are drawn from."""

    anchors: torch.Generator
    regions: torch.Generator


def batch_images(
    images: Sequence[Tensor], divisible: int, least: Size = (1, 1)
) -> tuple[Tensor, list[Size]]:
    """Normalised images (3, h, w) in one tensor, zeros behind their ends, and their sizes.

    Args:
        divisible: what the tensor's sides are multiples of.
        least: what they are at least.
    """
    sizes: list[Size] = [(one.shape[-2], one.shape[-1]) for one in images]
    sides = zip(*sizes, least, strict=True)
    height, width = (-(-max(side) // divisible) * divisible for side in sides)
    batch = images[0].new_zeros(len(images), 3, height, width)
    for row, one in zip(batch, images, strict=True):
        row[:, : one.shape[-2], : one.shape[-1]] = one
    return batch, sizes


def _largest(images: Sequence[Tensor]) -> Size:
    """Height and width of the largest images of all processes: norms see the padding, too."""
    own = torch.tensor([one.shape[-2:] for one in images], device=images[0].device).amax(0)
    height, width = gather(own[None]).amax(0).tolist()
    return height, width


class Detector(ABC, nn.Module):
    """What both detectors share: proposals, regions, losses and detections.

    Attributes:
        divisible: what the sides of a batch are multiples of.
        rpn: the proposals.
        predictor: classes and boxes of regions.
        mask_head: masks of objects, if there are any.
        pooled: side of a region's pooled features.
        regions: of each training image.
    """

    divisible = 1
    pooled = 7
    regions = REGIONS
    strides: tuple[int, ...]  # of the maps that regions are pooled from

    def __init__(
        self, backbone: ResNetBackbone, rpn: RegionProposals, predictor: BoxPredictor
    ) -> None:
        super().__init__()
        self.backbone, self.rpn, self.predictor = backbone, rpn, predictor
        self.mask_head: MaskHead | None = None

    @abstractmethod
    def maps(self, batch: Tensor) -> list[Tensor]:
        """The maps that proposals are made on; regions are pooled from the first of them."""

    @abstractmethod
    def features(self, pooled: Tensor) -> Tensor:
        """Pooled regions (R, channels, pooled, pooled) as the predictor takes them."""

    def forward(
        self,
        images: Sequence[Tensor],
        objects: Sequence[Objects],
        generators: Sequence[Generators],
    ) -> dict[str, Tensor]:
        """Each term of the loss, which is their sum."""
        batch, sizes = batch_images(images, self.divisible, _largest(images))
        maps = self.maps(batch)
        logits, codes = self.rpn(maps)
        anchors = self.rpn.anchors(maps)
        with torch.no_grad():
            proposals = self.rpn.propose(anchors, logits, codes, sizes)
            labels, matched = label_anchors(
                torch.cat(anchors), [one.boxes for one in objects], [g.anchors for g in generators]
            )
            regions = [
                sample_regions(
                    boxes,
                    one.boxes,
                    one.classes,
                    self.predictor.classes,
                    self.regions,
                    generator.regions,
                )
                for (boxes, _), one, generator in zip(proposals, objects, generators, strict=True)
            ]
        terms = self.rpn.losses(
            torch.cat(anchors), torch.cat(logits, 1), torch.cat(codes, 1), labels, matched
        )
        return terms | self.region_losses(maps, regions, objects)

    def region_losses(
        self, maps: Sequence[Tensor], regions: Sequence[Regions], objects: Sequence[Objects]
    ) -> dict[str, Tensor]:
        """The terms of regions that were sampled."""
        own = torch.cat(
            [
                one.boxes[r.objects] if len(one.boxes) else torch.zeros_like(r.boxes)
                for r, one in zip(regions, objects, strict=True)
            ]
        )
        maps = maps[: len(self.strides)]
        pooled = pool(maps, self.strides, [r.boxes for r in regions], self.pooled)
        logits, codes = self.predictor(self.features(pooled))
        boxes = torch.cat([r.boxes for r in regions])
        terms = box_losses(logits, codes, boxes, torch.cat([r.classes for r in regions]), own)
        if self.mask_head is None:
            return terms
        found = [r.classes < self.predictor.classes for r in regions]
        inside = [r.boxes[rows] for r, rows in zip(regions, found, strict=True)]
        masks = [
            one.masks[index]
            for r, rows, one in zip(regions, found, objects, strict=True)
            for index in r.objects[rows].tolist()
        ]
        if world_size() == 1 and not any(map(len, inside)):  # norms need rows
            return terms | {"loss_mask": boxes.sum() * 0.0}
        logits = self.mask_head(pool(maps, self.strides, inside, 2 * self.pooled))
        targets = mask_targets(masks, torch.cat(inside))
        named = torch.cat([r.classes[rows] for r, rows in zip(regions, found, strict=True)])
        return terms | {"loss_mask": mask_loss(logits, named, targets)}

    @torch.inference_mode()
    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """What is found in each image."""
        batch, sizes = batch_images(images, self.divisible)
        maps = self.maps(batch)
        logits, codes = self.rpn(maps)
        proposals = [
            boxes for boxes, _ in self.rpn.propose(self.rpn.anchors(maps), logits, codes, sizes)
        ]
        maps = maps[: len(self.strides)]
        features = self.features(pool(maps, self.strides, proposals, self.pooled))
        counts = [len(boxes) for boxes in proposals]
        scores, boxes = (part.split(counts) for part in self.predictor(features))
        parts = zip(proposals, scores, boxes, sizes, strict=True)
        found = [detect(region, score, code, size)[0] for region, score, code, size in parts]
        return found if self.mask_head is None else self._with_masks(maps, found)

    def _with_masks(self, maps: Sequence[Tensor], found: list[Detections]) -> list[Detections]:
        assert self.mask_head is not None
        pooled = pool(maps, self.strides, [one.boxes for one in found], 2 * self.pooled)
        classes = torch.cat([one.classes for one in found])
        logits = self.mask_head(pooled)[torch.arange(len(classes), device=classes.device), classes]
        masks = logits.float().sigmoid().split([len(one.boxes) for one in found])
        return [
            Detections(one.boxes, one.scores, one.classes, mask)
            for one, mask in zip(found, masks, strict=True)
        ]


class C4Detector(Detector):
    """Faster R-CNN whose regions go through the backbone's last stage, with MoCo's extra norm.

    Args:
        sizes: of anchors, in pixels.
        recompute: the last stage's maps of regions are computed again for the gradient, block by
            block, which takes less memory and more time.
    """

    strides = (16,)
    pooled = 14

    def __init__(
        self,
        backbone: ResNetBackbone,
        classes: int,
        sizes: Sequence[float] = SIZES,
        recompute: bool = False,
    ) -> None:
        rpn = RegionProposals(
            backbone.stage_channels[2], [sizes], self.strides, Kept(12000, 2000), Kept(6000, 1000)
        )
        super().__init__(backbone, rpn, BoxPredictor(backbone.channels, classes))
        self.norm = nn.BatchNorm2d(backbone.channels)
        self._recompute = recompute

    def maps(self, batch: Tensor) -> list[Tensor]:
        return list(deque(self.backbone.stages(batch, 3), 1))

    def features(self, pooled: Tensor) -> Tensor:
        recompute = self._recompute and self.training
        for block in self.backbone.layer4:
            pooled = _recomputed(block, pooled) if recompute else block(pooled)
        features: Tensor = self.norm(pooled).mean((2, 3))
        return features


def _recomputed(block: nn.Module, images: Tensor) -> Tensor:
    """What the block makes, of which only `images` is kept for the gradient."""
    found: Tensor = checkpoint(
        block,
        images,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), statistics_kept(block)),
    )
    return found

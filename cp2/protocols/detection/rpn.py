"""The region proposal network (Faster R-CNN sec. 3.1) with detectron2's choices."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, clip_boxes_to_image

from cp2.errors import UserError
from cp2.protocols.detection.boxes import (
    IGNORED,
    NEGATIVE,
    POSITIVE,
    Weights,
    decode,
    encode,
    has_area,
    match,
    overlap,
    sample,
)

RATIOS = (0.5, 1.0, 2.0)  # height by width
CODES: Weights = (1.0, 1.0, 1.0, 1.0)
BATCH, POSITIVES = 256, 0.5  # anchors an image that the loss sees; share of positive ones
LOW, HIGH = 0.3, 0.7
NMS = 0.7

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Kept:
    """Proposals kept: of each level before, of each image after suppression."""

    before: int
    after: int


def cell_anchors(sizes: Sequence[float]) -> Tensor:
    """Anchors (sizes x ratios, 4) around (0, 0); sizes are roots of areas."""
    boxes = []
    for size in sizes:
        for ratio in RATIOS:
            width = size / ratio**0.5
            boxes.append([-width / 2, -ratio * width / 2, width / 2, ratio * width / 2])
    return torch.tensor(boxes)


def grid_anchors(cells: Tensor, size: Size, stride: int) -> Tensor:
    """The anchors of a map of (height, width), (height * width * A, 4): row by row."""
    y, x = (torch.arange(n, device=cells.device) * float(stride) for n in size)
    y, x = torch.meshgrid(y, x, indexing="ij")
    corners = torch.stack([x, y, x, y], -1)
    return (corners[:, :, None] + cells).reshape(-1, 4)


class RegionProposals(nn.Module):
    """Objectness and boxes at every cell of one or more maps; the proposals that follow.

    Args:
        channels: of each map.
        sizes: of the anchors, one list a map.
        strides: pixels between two cells, one a map.
        training, testing: how many proposals are kept.
    """

    def __init__(
        self,
        channels: int,
        sizes: Sequence[Sequence[float]],
        strides: Sequence[int],
        training: Kept,
        testing: Kept,
    ) -> None:
        super().__init__()
        self.strides, self._training, self._testing = tuple(strides), training, testing
        self._cells = [cell_anchors(one) for one in sizes]
        anchors = len(self._cells[0])
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, anchors, 1)
        self.deltas = nn.Conv2d(channels, 4 * anchors, 1)
        for layer in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits (N, H * W * A) and codes (N, H * W * A, 4) of each map."""
        logits, codes = [], []
        for one in maps:
            x = F.relu(self.conv(one))
            logits.append(self.objectness(x).permute(0, 2, 3, 1).flatten(1))
            codes.append(self.deltas(x).permute(0, 2, 3, 1).reshape(len(one), -1, 4))
        return logits, codes

    def anchors(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The anchors of each map."""
        return [
            grid_anchors(cells.to(one.device), (one.shape[-2], one.shape[-1]), stride)
            for cells, one, stride in zip(self._cells, maps, self.strides, strict=True)
        ]

    def propose(
        self,
        anchors: Sequence[Tensor],
        logits: Sequence[Tensor],
        codes: Sequence[Tensor],
        sizes: Sequence[Size],
    ) -> list[tuple[Tensor, Tensor]]:
        """Boxes (n, 4) and logits (n,) of each image's proposals, the best first."""
        kept = self._training if self.training else self._testing
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for level, (boxes, score, code) in enumerate(zip(anchors, logits, codes, strict=True)):
            best, index = score.detach().topk(min(kept.before, score.shape[1]), 1)
            chosen = code.detach().gather(1, index[..., None].expand(-1, -1, 4))
            decoded = decode(chosen.flatten(0, 1), boxes[index].flatten(0, 1), CODES)
            found.append((decoded.unflatten(0, index.shape), best, torch.full_like(index, level)))
        boxes, scores, levels = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        images = zip(boxes, scores, levels, sizes, strict=True)
        return [select(box, score, level, size, kept.after) for box, score, level, size in images]

    def losses(
        self, anchors: Tensor, logits: Tensor, codes: Tensor, labels: Tensor, matched: Tensor
    ) -> dict[str, Tensor]:
        """Both terms, summed over the batch and divided by 256 an image.

        Args:
            anchors: (R, 4) of all levels.
            logits, codes: (N, R) and (N, R, 4).
            labels: (N, R), of which all but the sample are ignored.
            matched: (N, R, 4), the box of each anchor's object.
        """
        positive, used = labels == POSITIVE, labels != IGNORED
        wanted = encode(anchors.expand_as(matched)[positive], matched[positive], CODES)
        count = BATCH * len(labels)
        chosen = logits[used].float()
        objectness = F.binary_cross_entropy_with_logits(
            chosen, labels[used].to(chosen.dtype), reduction="sum"
        )
        regression = F.l1_loss(codes[positive].float(), wanted, reduction="sum")
        return {"loss_rpn_cls": objectness / count, "loss_rpn_loc": regression / count}


def select(
    boxes: Tensor, scores: Tensor, levels: Tensor, size: Size, most: int
) -> tuple[Tensor, Tensor]:
    """An image's best boxes with area after suppression on each level, and their scores.

    Raises:
        UserError: the network gave numbers that are not finite.
    """
    if not (boxes.isfinite().all() and scores.isfinite().all()):
        raise UserError("proposals are not finite: the training has diverged; lower the rate")
    boxes = clip_boxes_to_image(boxes, size)
    kept = has_area(boxes)
    boxes, scores, levels = boxes[kept], scores[kept], levels[kept]
    best = batched_nms(boxes, scores.float(), levels, NMS)[:most]
    return boxes[best], scores[best]


def label_anchors(
    anchors: Tensor, objects: Sequence[Tensor], generators: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """Labels (N, R) with the sample of each image, and its anchors' boxes (N, R, 4).

    Args:
        objects: boxes (G, 4) of each image.
        generators: one an image, for its sample.
    """
    labels, matched = [], []
    for boxes, generator in zip(objects, generators, strict=True):
        index, found = match(overlap(boxes, anchors), LOW, HIGH, keep_best=True)
        positive, negative = sample(found, BATCH, POSITIVES, generator)
        chosen = torch.full_like(found, IGNORED)
        chosen[positive], chosen[negative] = POSITIVE, NEGATIVE
        labels.append(chosen)
        matched.append(boxes[index] if len(boxes) else torch.zeros_like(anchors))
    return torch.stack(labels), torch.stack(matched)

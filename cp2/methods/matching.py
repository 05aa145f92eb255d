"""Matching of positions between two views, by similarity or by where they lie.

All matchings take unit vectors, without gradient, and return the key position of each query
position, int64 (N, P), and a score of the match, (N, P).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import roi_align

from cp2.augment.view_boxes import position_centres, position_diagonals
from cp2.methods.contrastive import Vectors
from cp2.models.devices import full_precision

Match = tuple[Tensor, Tensor]


# Of query and keys, `dense` (N, D, P) and for `by_backbone` `map` (N, C, P), and the view boxes of
# both, (N, 2, 7); see `cp2.augment.view_boxes`.
Matching = Callable[[Vectors, Vectors, Tensor], Match]


def most_similar(query: Tensor, keys: Tensor) -> Match:
    """The key position of the largest cosine; several queries may have the same (DenseCL Eq. 4).

    Unit vectors (N, C, P). The first of equals, as in the release.
    """
    with torch.no_grad(), full_precision(query.device):
        similarity = torch.bmm(query.float().transpose(1, 2), keys.float())
        score, index = similarity.max(2)
    return index, score


def by_backbone(query: Vectors, keys: Vectors, boxes: Tensor) -> Match:
    """DenseCL's choice: similarity of the backbone's features (`max-sim F`)."""
    return most_similar(query["map"], keys["map"])


def by_projection(query: Vectors, keys: Vectors, boxes: Tensor) -> Match:
    """Similarity of what is contrasted (DenseCL Table 5, `max-sim theta`)."""
    return most_similar(query["dense"], keys["dense"])


def at_random(query: Vectors, keys: Vectors, boxes: Tensor) -> Match:
    """Any position, drawn along with the keys (DenseCL Table 5, `random`); the score is 0."""
    return keys["drawn"], torch.zeros_like(keys["drawn"], dtype=torch.float32)


def nearest(query: Vectors, keys: Vectors, boxes: Tensor) -> Match:
    """The key position whose centre is nearest in the image; the score is minus the distance.

    Distances are in diagonals of a position of the view with the larger ones (PixPro sec. 3.1).
    """
    side = round(query["dense"].shape[2] ** 0.5)
    q, k = position_centres(boxes[:, 0], side), position_centres(boxes[:, 1], side)  # (N, P, 2)
    unit = position_diagonals(boxes, side).amax(1)  # (N,)
    distance, index = torch.cdist(q, k).min(2)
    return index, -distance / unit[:, None]


def overlaps(boxes: Tensor) -> Tensor:
    """Where both views of an image overlap, in shares of either view as it is seen: (N, 2, 4).

    Left, top, right, bottom; of views that do not meet, right is less than left or bottom than top.

    Args:
        boxes: view boxes (N, 2, 7), see `cp2.augment.view_boxes`.
    """
    top, left, height, width, mirrored = boxes[..., :5].float().unbind(-1)
    inner = [side.amax(1, keepdim=True) for side in (left, top)]
    outer = [side.amin(1, keepdim=True) for side in (left + width, top + height)]
    x0, x1 = (inner[0] - left) / width, (outer[0] - left) / width
    y0, y1 = (inner[1] - top) / height, (outer[1] - top) / height
    flipped = mirrored > 0
    x0, x1 = torch.where(flipped, 1 - x1, x0), torch.where(flipped, 1 - x0, x1)
    return torch.stack([x0, y0, x1, y1], dim=-1)


def aligned(score: Tensor, places: Tensor, mirrored: Tensor) -> Tensor:
    """Scores (N, K, h, w) of the overlap alone, resampled to (h, w), as the image lies.

    One sample a bin, as adaptive sampling takes of a box within the map; 0 where no views meet.

    Args:
        places: one view's rows of `overlaps`, (N, 4).
        mirrored: bool (N,).
    """
    h, w = score.shape[2:]
    index = torch.arange(len(score), device=score.device, dtype=score.dtype)[:, None]
    rois = torch.cat([index, places * places.new_tensor([w, h, w, h])], dim=1)
    cut = roi_align(score, rois, (h, w), sampling_ratio=1, aligned=True)
    cut = torch.where(mirrored.view(-1, 1, 1, 1), cut.flip(3), cut)
    meet = (places[:, 2:] > places[:, :2]).all(1)
    return torch.where(meet.view(-1, 1, 1, 1), cut, 0.0)

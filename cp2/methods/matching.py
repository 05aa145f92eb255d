"""Matching of positions between two views, without gradient.

All matchings take unit vectors and return the key position of each query position, int64 (N, P),
and a score of the match, (N, P).
"""

from collections.abc import Callable

import torch
from torch import Tensor

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

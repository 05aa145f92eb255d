"""PixCon: pixel-level contrastive pretraining on scene images (WACV 2024; release, `pixcon.py`)."""

from functools import partial

from torch import Tensor, nn

from cp2.augment.view_boxes import overlap_mask
from cp2.methods.contrastive import Contrastive
from cp2.methods.densecl import DenseContrast, around, encoder
from cp2.methods.matching import by_backbone, nearest
from cp2.settings.dense import PixConSettings

__all__ = ["encoder", "method"]


def semantic_weights(
    score: Tensor, boxes: Tensor, power: float, overlap_rule: bool = True, rounded: bool = False
) -> Tensor:
    """Semantic reweighting: 1 in the overlap of the views, a power of the similarity elsewhere.

    Similarities are scaled so that an image's least similar position has 0 and the most similar one
    outside the overlap 1. Without the overlap rule, weights are the plain power of the cosine.
    """
    if not overlap_rule:
        return score.pow(power)
    side = round(score.shape[1] ** 0.5)
    return scaled_weights(score, overlap_mask(boxes[:, 0], boxes[:, 1], side, rounded), power)


def scaled_weights(score: Tensor, inside: Tensor, power: float) -> Tensor:
    """((s - min of all s) / (max of outer s - min of all s)) ** power; 1 where `inside`.

    Args:
        score, inside: (N, P), float and bool.
    """
    least = score.amin(1, keepdim=True)
    most = score.masked_fill(inside, -1.0).amax(1, keepdim=True)  # -1: the least cosine
    scaled = (score - least) / (most - least).clamp(min=1e-6)
    return scaled.pow(power).masked_fill(inside, 1.0)


def within_radius(score: Tensor, boxes: Tensor, radius: float) -> Tensor:
    """1 for positions whose match is near enough in the image, 0 for the others."""
    return (-score <= radius).float()


def method(settings: PixConSettings, encoder: nn.Module, micro_batches: int) -> Contrastive:
    """PixCon around an encoder of images (N, 3, S, S) to `DenseFeatures`."""
    match, weigh = by_backbone, None
    if settings.variant == "coord":
        match, weigh = nearest, partial(within_radius, radius=settings.coord_radius)
    elif settings.variant == "sr":
        weigh = partial(
            semantic_weights,
            power=settings.sr_power,
            overlap_rule=settings.overlap_rule,
            rounded=settings.overlap_edges == "round",
        )
    return around(settings, encoder, DenseContrast(settings, match, weigh), micro_batches)

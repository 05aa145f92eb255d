"""PixCon: pixel-level contrastive pretraining on scene images (WACV 2024; release, `pixcon.py`)."""

from torch import Tensor, nn

from cp2.augment.view_boxes import overlap_mask
from cp2.methods.contrastive import Contrastive
from cp2.methods.densecl import DenseContrast, around, encoder
from cp2.methods.matching import by_backbone, nearest
from cp2.settings.dense import PixConSettings

__all__ = ["encoder", "method"]


class SemanticWeights:
    """Semantic reweighting: 1 in the overlap of the views, a power of the similarity elsewhere.

    Similarities are scaled so that an image's least similar position has 0 and the most similar one
    outside the overlap 1. Without the overlap rule, weights are the plain power of the cosine.
    """

    def __init__(self, power: float, overlap_rule: bool, rounded: bool = False) -> None:
        self.power, self.overlap_rule, self.rounded = power, overlap_rule, rounded

    def __call__(self, score: Tensor, boxes: Tensor) -> Tensor:
        if not self.overlap_rule:
            return score.pow(self.power)
        side = round(score.shape[1] ** 0.5)
        inside = overlap_mask(boxes[:, 0], boxes[:, 1], side, self.rounded)
        return scaled_weights(score, inside, self.power)


def scaled_weights(score: Tensor, inside: Tensor, power: float) -> Tensor:
    """((s - min of all s) / (max of outer s - min of all s)) ** power; 1 where `inside`.

    Args:
        score, inside: (N, P), float and bool.
    """
    least = score.amin(1, keepdim=True)
    most = score.masked_fill(inside, -1.0).amax(1, keepdim=True)  # -1: the least cosine
    scaled = (score - least) / (most - least).clamp(min=1e-6)
    return scaled.pow(power).masked_fill(inside, 1.0)


class WithinRadius:
    """1 for positions whose match is near enough in the image, 0 for the others."""

    def __init__(self, radius: float) -> None:
        self.radius = radius

    def __call__(self, score: Tensor, boxes: Tensor) -> Tensor:
        return (-score <= self.radius).float()


def method(settings: PixConSettings, encoder: nn.Module, micro_batches: int) -> Contrastive:
    """PixCon around an encoder of images (N, 3, S, S) to `DenseFeatures`."""
    if settings.variant == "coord":
        objective = DenseContrast(settings, nearest, WithinRadius(settings.coord_radius))
    elif settings.variant == "sr":
        rounded = settings.overlap_edges == "round"
        weights = SemanticWeights(settings.sr_power, settings.overlap_rule, rounded)
        objective = DenseContrast(settings, by_backbone, weights)
    else:
        objective = DenseContrast(settings, by_backbone)
    return around(settings, encoder, objective, micro_batches)

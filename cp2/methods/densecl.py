"""DenseCL: dense contrastive learning (CVPR 2021; release, `openselfsup/models/densecl.py`)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cp2.augment.pipeline import PreparedBatch
from cp2.drawing.counters import MATCHES, QUEUED_POSITIONS
from cp2.methods.contrastive import Contrastive, Objective, Vectors
from cp2.methods.losses import chunked_info_nce, info_nce
from cp2.methods.matching import Matching, at_random, by_backbone, by_projection
from cp2.methods.step import LossTerms, Step
from cp2.models.backbones import Backbone
from cp2.models.distributed import add_up, world_size
from cp2.models.heads import Head
from cp2.models.projectors import DenseFeatures, DensePredictor, TwoHeadEncoder
from cp2.settings.dense import DenseClSettings, DenseSettings

MATCHINGS: dict[str, Matching] = {
    "max-sim-backbone": by_backbone,
    "max-sim-projection": by_projection,
    "random": at_random,
}
# Weight of each query position, (N, P), from its match's score and the view boxes.
Weighing = Callable[[Tensor, Tensor], Tensor]


class DenseContrast(Objective):
    """InfoNCE of whole views and of matched positions, each against a queue of its own.

    Args:
        match: which position of the key view each position of the query is pulled to.
        weigh: weights in the mean over all positions of the batch; None: all the same.
    """

    terms = ("loss", "loss_instance", "accuracy_instance", "loss_dense", "accuracy_dense")

    def __init__(
        self, settings: DenseSettings, match: Matching, weigh: Weighing | None = None
    ) -> None:
        super().__init__(settings.dim, settings.queue_size, ("queue", "queue2"))
        self.settings, self.match, self.weigh = settings, match, weigh

    def share(self, step: Step) -> float:
        """Lambda, which is 0 until its warm-up is over (release, `DenseCLWarmupHook`)."""
        warm = step.number >= self.settings.lambda_warmup_steps
        return self.settings.loss_lambda if warm else 0.0

    def keys(self, features: DenseFeatures) -> Vectors:
        """Unit vectors; the dense queue gets the mean of the positions, taken before they are."""
        mean = features.dense.float().flatten(2).mean(2)
        return self._dense(features) | {
            "image": F.normalize(features.image.float(), dim=1),
            "mean": F.normalize(mean, dim=1),
        }

    def _dense(self, features: DenseFeatures) -> Vectors:
        """What is matched, (N, ..., P); the backbone's map only where the matching reads it."""
        dense = {"dense": F.normalize(features.dense.float().flatten(2), dim=1)}
        if self.match is by_backbone:
            dense["map"] = F.normalize(features.map.detach().float().flatten(2), dim=1)
        return dense

    def draw(self, step: Step, view: int, keys: Vectors, batch_size: int) -> dict[str, Any]:
        """The position of each image that joins the dense queue, and random matches (N, P)."""
        positions, drawn = keys["dense"].shape[2], {}
        if self.settings.dense_queue == "cell":
            rng = step.generator(QUEUED_POSITIONS, view)
            drawn["queued"] = rng.integers(positions, size=batch_size)
        if self.match is at_random:
            rng = step.generator(MATCHES, view)
            drawn["drawn"] = rng.integers(positions, size=(batch_size, positions))
        return drawn

    def forward(
        self, features: DenseFeatures, keys: Vectors, batch: PreparedBatch, step: Step
    ) -> LossTerms:
        """Both losses before lambda, and their weighted sum."""
        temperature, share = self.settings.temperature, self.share(step)
        query = self._dense(features)
        image = F.normalize(features.image.float(), dim=1)
        instance, accuracy_instance = info_nce(image, keys["image"], self.queue(), temperature)
        index, score = self.match(query, keys, batch.view_boxes)
        matched = keys["dense"].gather(2, index[:, None].expand_as(query["dense"]))
        losses, hits = chunked_info_nce(query["dense"], matched, self.queue("queue2"), temperature)
        weights = self.weigh(score, batch.view_boxes) if self.weigh else None
        dense = losses.mean() if weights is None else batch_mean(losses, weights)
        return {
            "loss": (1 - share) * instance + share * dense,
            "loss_instance": instance.detach(),
            "loss_dense": dense.detach(),
            "accuracy_instance": accuracy_instance,
            "accuracy_dense": hits.mean(),
        }

    def entries(self, keys: Vectors, mask_k: Tensor | None) -> Vectors:
        """The whole view's key, and one vector of its positions: their mean, or one of them."""
        dense = keys["mean"]
        if self.settings.dense_queue == "cell":
            index = keys["queued"].view(-1, 1, 1).expand(-1, keys["dense"].shape[1], 1)
            dense = keys["dense"].gather(2, index)[:, :, 0]
        return {"queue": keys["image"], "queue2": dense}


def batch_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the positions of all images of all processes; 0 where all weights are 0.

    What the processes return has this mean: each holds its own positions' part of it.
    """
    total = add_up(weights.sum()) / world_size()
    return (losses * weights).sum() / total.clamp(min=torch.finfo(total.dtype).tiny)


def encoder(settings: DenseSettings, backbone: Backbone, head: Head | None) -> TwoHeadEncoder:
    """Backbone and two projections; the segmentation head is of no use here."""
    norm, grid = settings.projector_norm, settings.grid
    return TwoHeadEncoder(backbone, settings.dim, norm, grid, settings.head_init)


def around(
    settings: DenseSettings, encoder: nn.Module, objective: Objective, micro_batches: int
) -> Contrastive:
    """Momentum contrast with an objective of whole views and positions."""
    width = settings.predictor_width
    predictor = DensePredictor(settings.dim, width) if settings.predictor else None
    return Contrastive(settings, encoder, objective, micro_batches, predictor=predictor)


def method(settings: DenseClSettings, encoder: nn.Module, micro_batches: int) -> Contrastive:
    """DenseCL around an encoder of images (N, 3, S, S) to `DenseFeatures`."""
    objective = DenseContrast(settings, MATCHINGS[settings.matching])
    return around(settings, encoder, objective, micro_batches)

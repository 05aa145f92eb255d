"""PixPro: pixel-to-propagation consistency (CVPR 2021; release, `contrast/models/PixPro.py`)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cp2.augment.pipeline import PreparedBatch
from cp2.methods.contrastive import Contrastive, Objective, Vectors
from cp2.methods.step import LossTerms, Step
from cp2.models.backbones import Backbone
from cp2.models.devices import full_precision
from cp2.models.heads import Head
from cp2.models.projectors import conv_mlp
from cp2.settings.rivals import PixProSettings

LEAST = 1e-6  # keeps quotients and roots finite


class PixelFeatures(NamedTuple):
    """Projections (N, dim, h, w) of positions, and those of the instance branch if there is one."""

    dense: Tensor
    instance: Tensor | None


class PixelEncoder(nn.Module):
    """Images (N, 3, H, W) -> `PixelFeatures`; convolutions start as PyTorch's."""

    def __init__(self, settings: PixProSettings, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        sizes = backbone.channels, settings.projector_width, settings.dim
        self.dense = conv_mlp(*sizes, norm=True)
        self.instance = conv_mlp(*sizes, norm=True) if settings.instance_branch else None

    def forward(self, images: Tensor) -> PixelFeatures:
        map = self.backbone(images)
        return PixelFeatures(self.dense(map), self.instance(map) if self.instance else None)


class Propagation(Objective):
    """Positions propagated within their view, against the near ones of the other view."""

    def __init__(self, settings: PixProSettings) -> None:
        super().__init__(settings.dim, settings.queue_size, queues=())
        self.settings = settings
        dim, width = settings.dim, settings.predictor_width
        self.value = nn.Conv2d(dim, dim, 1)
        self.predictor = conv_mlp(dim, width, dim, norm=True) if settings.instance_branch else None
        self.terms = ("loss", "loss_dense") + (("loss_instance",) if self.predictor else ())

    def keys(self, features: PixelFeatures) -> Vectors:
        """Unit vectors of positions, (N, dim, P), and of whole views."""
        keys = {"dense": F.normalize(features.dense.float().flatten(2), dim=1)}
        if features.instance is not None:
            keys["instance"] = F.normalize(features.instance.float().mean((2, 3)), dim=1)
        return keys

    def whole(self, keys: Vectors, mask: Tensor | None) -> Tensor:
        """Of the instance branch; without it, the mean of the positions."""
        found = keys.get("instance")
        return F.normalize(keys["dense"].mean(2), dim=1) if found is None else found

    def forward(
        self, features: PixelFeatures, keys: Vectors, batch: PreparedBatch, step: Step
    ) -> LossTerms:
        """-2 cos of positive pairs, mean of each image and of all, plus the instance branch's."""
        settings, x = self.settings, features.dense
        with full_precision(x.device):
            values = self.value(x.float()).flatten(2)
            y = propagate(x.float().flatten(2), values, settings.sharpness)
            near = positives(batch.view_boxes, x.shape[-1], settings.positive_radius)
            similarity = torch.bmm(F.normalize(y, dim=1).transpose(1, 2), keys["dense"])
            dense = -2 * mean_of_positives(similarity, near).mean()
        if self.predictor is None or features.instance is None:
            return {"loss": dense, "loss_dense": dense.detach()}
        predicted = F.normalize(self.predictor(features.instance).float().mean((2, 3)), dim=1)
        instance = -2 * (predicted * keys["instance"]).sum(1).mean()
        loss = dense + settings.instance_weight * instance
        return {
            "loss": loss,
            "loss_dense": dense.detach(),
            "loss_instance": instance.detach(),
        }


def propagate(x: Tensor, values: Tensor, sharpness: float) -> Tensor:
    """y_i = sum over j of max(cos(x_i, x_j), 0)^sharpness v_j / |v_j|, all (N, D, P).

    The release normalises the values, which the paper (Eq. 3) does not; `sharpness` is gamma.
    """
    unit = F.normalize(x, dim=1)
    weights = torch.bmm(unit.transpose(1, 2), unit).clamp(min=0)
    if sharpness < 1:
        weights = weights + LEAST  # a root has no gradient at 0
    return torch.bmm(F.normalize(values, dim=1), weights.pow(sharpness).transpose(1, 2))


def positives(boxes: Tensor, side: int, radius: float) -> Tensor:
    """Pairs of positions that lie near each other in the image, bool (N, P, P), query first.

    Distances are in diagonals of the view with the larger positions. As released, either axis is in
    units of the image's own side, between the centres of its outermost pixels.

    Args:
        boxes: view boxes (N, 2, 7), see `cp2.augment.view_boxes`.
    """
    box = boxes.float()
    extent = (box[..., 5:7] - 1).clamp(min=1)
    start = box[..., :2] / extent  # row, column
    end = (box[..., :2] + box[..., 2:4] - 1) / extent
    mirrored = torch.stack([torch.zeros_like(boxes[..., 4]), boxes[..., 4]], dim=-1) > 0
    start, end = torch.where(mirrored, end, start), torch.where(mirrored, start, end)
    bins = (end - start) / side  # (N, 2, 2)
    steps = torch.arange(side, device=boxes.device) + 0.5
    rows, columns = (start[..., None] + bins[..., None] * steps).unbind(2)  # (N, 2, side)
    grid = torch.stack(
        [rows.repeat_interleave(side, 2), columns.repeat(1, 1, side)], dim=-1
    )  # (N, 2, P, 2)
    unit = bins.square().sum(2).sqrt().amax(1)
    offsets = grid[:, 0, :, None] - grid[:, 1, None, :]
    return offsets.square().sum(3).sqrt() < radius * unit[:, None, None]


def mean_of_positives(similarity: Tensor, near: Tensor) -> Tensor:
    """Of each image, (N,); 0 where the views do not meet."""
    count = near.sum((1, 2))
    return (similarity * near).sum((1, 2)) / (count + LEAST)


class PixPro(Contrastive):
    """Momentum contrast without negatives; the momentum is that of the current step."""

    momentum_lag = 0  # release, `_momentum_update_key_encoder`


def encoder(settings: PixProSettings, backbone: Backbone, head: Head | None) -> PixelEncoder:
    """Backbone and projections of positions; the segmentation head is of no use here."""
    return PixelEncoder(settings, backbone)


def method(settings: PixProSettings, encoder: nn.Module, micro_batches: int) -> PixPro:
    """PixPro around an encoder of images (N, 3, S, S) to `PixelFeatures`."""
    return PixPro(settings, encoder, Propagation(settings), micro_batches)

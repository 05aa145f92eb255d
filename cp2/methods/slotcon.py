"""SlotCon: semantic grouping by prototypes (NeurIPS 2022; release, `models/slotcon.py`).

With PixCon's combinations of it (supplement, Tables 5 and 6), which are not released.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cp2.augment.pipeline import PreparedBatch
from cp2.methods.contrastive import Contrastive, Keys, Objective, Vectors
from cp2.methods.densecl import batch_mean
from cp2.methods.losses import chunked_info_nce, info_nce
from cp2.methods.matching import aligned, most_similar, overlaps
from cp2.methods.pixcon import semantic_weights
from cp2.methods.step import LossTerms, Step
from cp2.models.backbones import Backbone
from cp2.models.devices import full_precision
from cp2.models.distributed import add_up, gather, rank, world_size
from cp2.models.heads import Head
from cp2.models.projectors import conv_mlp, mlp
from cp2.settings.rivals import SlotConSettings

LEAST = 1e-6  # added to the share that each position has in a slot
SR_POWER = 2.0  # PixCon's
PREDICTOR_WIDTH = 2048  # of the branches: MoCo v2+'s
WEIGHT = 0.5  # of the group and the slot loss; a branch has "the same as the other two terms"


class SlotFeatures(NamedTuple):
    """What two views are compared by, not normalised."""

    x: Tensor  # (N, dim, h, w), projections
    score: Tensor  # (N, K, h, w), cosines of prototypes and projections
    map: Tensor  # (N, channels, h, w), of the backbone
    image: Tensor | None  # (N, branch_dim)
    pixel: Tensor | None  # (N, branch_dim, h, w)


class SlotEncoder(nn.Module):
    """Images (N, 3, H, W) -> `SlotFeatures`."""

    def __init__(self, settings: SlotConSettings, backbone: Backbone) -> None:
        super().__init__()
        channels, width, dim = backbone.channels, settings.projector_width, settings.dim
        self.backbone = backbone
        conv = partial(nn.Conv2d, kernel_size=1)
        self.projector = three_layers(conv, nn.BatchNorm2d, channels, width, dim)
        self.prototypes = nn.Embedding(settings.prototypes, dim)  # N(0, 1)
        sizes = channels, channels, settings.branch_dim
        self.image = mlp(*sizes, norm=True) if settings.image_branch else None
        self.pixel = conv_mlp(*sizes, norm=True) if settings.pixel_branch else None

    def forward(self, images: Tensor) -> SlotFeatures:
        map = self.backbone(images)
        x = self.projector(map)
        return SlotFeatures(
            x,
            scores(x, self.prototypes.weight),
            map,
            self.image(map.mean((2, 3))) if self.image else None,
            self.pixel(map) if self.pixel else None,
        )


class Slots(Objective):
    """Cross-entropy of how positions are grouped, and InfoNCE of the groups' mean vectors."""

    centre: Tensor

    def __init__(self, settings: SlotConSettings) -> None:
        image, pixel = settings.image_branch, settings.pixel_branch
        queues = ("queue",) * image + ("queue2",) * pixel
        super().__init__(settings.branch_dim, settings.queue_size, queues)
        self.settings = settings
        dim, width = settings.dim, settings.predictor_width
        self.predictor = three_layers(nn.Linear, nn.BatchNorm1d, dim, width, dim)
        self.register_buffer("centre", torch.zeros(settings.prototypes))
        sizes = settings.branch_dim, PREDICTOR_WIDTH, settings.branch_dim
        self.image = mlp(*sizes, norm=True) if image else None
        self.pixel = conv_mlp(*sizes, norm=True) if pixel else None
        self.terms = ("loss", "loss_group", "loss_slot")
        self.terms += ("loss_instance", "accuracy_instance") if image else ()
        self.terms += ("loss_dense", "accuracy_dense") if pixel else ()

    def keys(self, features: SlotFeatures) -> Vectors:
        """Scores (N, K, h, w), unit slots (N, K, dim), and which of them have positions."""
        keys = {
            "score": features.score,
            "slots": F.normalize(self._slots(features), dim=2),
            "valid": occupied(features.score),
        }
        if self.settings.matching != "coord" or self.pixel:
            keys["map"] = unit_map(features)
        if features.image is not None:
            keys["image"] = F.normalize(features.image.float(), dim=1)
        if features.pixel is not None:
            dense = features.pixel.float().flatten(2)
            keys["dense"] = F.normalize(dense, dim=1)
            keys["mean"] = F.normalize(dense.mean(2), dim=1)
        return keys

    def _slots(self, features: SlotFeatures) -> Tensor:
        return slots(features.x.float(), features.score, self.settings.teacher_temperature)

    def forward(
        self, features: SlotFeatures, keys: Vectors, batch: PreparedBatch, step: Step
    ) -> LossTerms:
        """All losses before their weights of a half, and their weighted sum."""
        with full_precision(features.x.device):
            found = {
                "loss_group": self.group_loss(features, keys, batch.view_boxes),
                "loss_slot": self.slot_loss(features, keys),
            }
            accuracies = {}
            if self.image and features.image is not None:
                query = F.normalize(self.image(features.image.float()), dim=1)
                found["loss_instance"], accuracies["accuracy_instance"] = info_nce(
                    query, keys["image"], self.queue(), self.settings.temperature
                )
            if self.pixel and features.pixel is not None:
                found["loss_dense"], accuracies["accuracy_dense"] = self._pixel_loss(features, keys)
        loss = WEIGHT * torch.stack(list(found.values())).sum()
        return {"loss": loss} | {k: v.detach() for k, v in found.items()} | accuracies

    def group_loss(self, features: SlotFeatures, keys: Vectors, boxes: Tensor) -> Tensor:
        """Cross-entropy of the positions' assignments, by place, by similarity or by both."""
        losses = []
        if self.settings.matching != "sim":
            places = overlaps(boxes)
            q, k = (
                aligned(score, places[:, view], boxes[:, view, 4] > 0).flatten(2)
                for view, score in enumerate((features.score, keys["score"]))
            )
            losses.append(self._cross_entropy(q, k).mean())
        if self.settings.matching != "coord":
            index, similarity = most_similar(unit_map(features), keys["map"])
            k = keys["score"].flatten(2)
            k = k.gather(2, index[:, None].expand(-1, k.shape[1], -1))
            each = self._cross_entropy(features.score.flatten(2), k)
            weights = torch.ones_like(each)
            if self.settings.reweighting:
                weights = semantic_weights(similarity, boxes, SR_POWER)
            losses.append(batch_mean(each, weights))
        return torch.stack(losses).mean()

    def _cross_entropy(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores (N, K, P) -> (N, P)."""
        settings = self.settings
        target = ((k - self.centre[:, None]) / settings.teacher_temperature).softmax(1)
        return -(target * (q / settings.student_temperature).log_softmax(1)).sum(1)

    def slot_loss(self, features: SlotFeatures, keys: Vectors) -> Tensor:
        """Mean over the slots that both views of an image have, of all processes.

        0 where the batch has fewer than two, which batch norm cannot normalise.
        """
        rows = chosen(occupied(features.score) & keys["valid"], features.score)
        count = rows.new_tensor(len(rows), dtype=torch.float32)
        if rows.device.type != "meta" and add_up(count.clone()) < 2:
            return sum((p.sum() for p in self.predictor.parameters()), count.new_zeros(())) * 0
        losses = self.slot_losses(self._slots(features), rows, keys)
        return batch_mean(losses, torch.ones_like(losses))

    def slot_losses(self, own: Tensor, rows: Tensor, keys: Vectors) -> Tensor:
        """InfoNCE of the student's slots `rows` (image * K + slot) against all that are occupied.

        2 tau times the cross-entropy, (rows,), as released.
        """
        temperature = self.settings.slot_temperature
        query = F.normalize(self.predictor(own.flatten(0, 1)[rows]), dim=1)
        valid = gather(keys["valid"])
        columns = chosen(valid, keys["score"])
        logits = query @ gather(keys["slots"]).flatten(0, 1)[columns].T / temperature
        position = valid.flatten().long().cumsum(0) - 1  # among the columns
        labels = position[rank() * keys["valid"].numel() + rows]
        return 2 * temperature * F.cross_entropy(logits, labels, reduction="none")

    def _pixel_loss(self, features: SlotFeatures, keys: Vectors) -> tuple[Tensor, Tensor]:
        assert self.pixel is not None
        assert features.pixel is not None
        query = F.normalize(self.pixel(features.pixel.float()).flatten(2), dim=1)
        index, _ = most_similar(unit_map(features), keys["map"])
        matched = keys["dense"].gather(2, index[:, None].expand_as(query))
        temperature = self.settings.temperature
        losses, hits = chunked_info_nce(query, matched, self.queue("queue2"), temperature)
        return losses.mean(), hits.mean()

    def entries(self, keys: Vectors, mask_k: Tensor | None) -> Vectors:
        """Keys of the branches."""
        joining = {"queue": "image", "queue2": "mean"}
        return {queue: keys[name] for queue, name in joining.items() if queue in self.queues}

    def update(self, keys: Keys, step: Step) -> None:
        """The centre follows the mean score of all positions of all views of all processes."""
        means = torch.stack([view["score"].float().mean((0, 2, 3)) for view in keys])
        mean = add_up(means.mean(0)) / world_size()
        mean = torch.where(mean.isfinite(), mean, self.centre)  # of a step that overflowed fp16
        self.centre.lerp_(mean, 1 - self.settings.centre_momentum)


def unit_map(features: SlotFeatures) -> Tensor:
    """The backbone's, unit vectors (N, channels, P) without gradient."""
    return F.normalize(features.map.detach().float().flatten(2), dim=1)


def scores(x: Tensor, prototypes: Tensor) -> Tensor:
    """Cosines of prototypes (K, D) and positions, (N, D, h, w) -> float32 (N, K, h, w)."""
    with full_precision(x.device):
        unit = F.normalize(prototypes.float(), dim=1)
        return torch.einsum("kd,ndhw->nkhw", unit, F.normalize(x.float(), dim=1))


def slots(x: Tensor, score: Tensor, temperature: float) -> Tensor:
    """Mean of the positions in each group, weighted by how much they are in it: (N, K, D)."""
    with full_precision(x.device):
        weights = (score.flatten(2) / temperature).softmax(1) + LEAST
        total = torch.einsum("nkp,ndp->nkd", weights, x.flatten(2))
        return total / weights.sum(2, keepdim=True)


def occupied(score: Tensor) -> Tensor:
    """Which groups are some position's nearest, bool (N, K)."""
    nearest = score.detach().flatten(2).argmax(1)
    empty = torch.zeros(score.shape[:2], dtype=torch.bool, device=score.device)
    return empty.scatter_(1, nearest, True)


def chosen(valid: Tensor, score: Tensor) -> Tensor:
    """Indices of what is true in (N, K), numbered row by row.

    On the meta device, where costs are counted, as many as can be: one a position.
    """
    if valid.device.type == "meta":
        most = min(valid.shape[1], score.shape[2] * score.shape[3])
        return torch.empty(len(valid) * most, dtype=torch.long, device=valid.device)
    return valid.flatten().nonzero()[:, 0]


def three_layers(
    layer: Callable[[int, int], nn.Module],
    norm: Callable[[int], nn.Module],
    before: int,
    width: int,
    after: int,
) -> nn.Sequential:
    """Layer, norm, GELU, twice, and a last layer; weights N(0, 0.02), truncated, biases 0."""
    layers = [layer(before, width), layer(width, width), layer(width, after)]
    for one in layers:
        for parameter in one.parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            else:
                nn.init.zeros_(parameter)
    first, second, last = layers
    return nn.Sequential(first, norm(width), nn.GELU(), second, norm(width), nn.GELU(), last)


class SlotCon(Contrastive):
    """Student and teacher; the teacher is what is judged."""

    momentum_lag = 0  # release, `_momentum_update_key_encoder`

    @property
    def exported(self) -> nn.Module:
        """The teacher."""
        return self.encoders.key


def encoder(settings: SlotConSettings, backbone: Backbone, head: Head | None) -> SlotEncoder:
    """Backbone, projector and prototypes; the segmentation head is of no use here."""
    return SlotEncoder(settings, backbone)


def method(settings: SlotConSettings, encoder: nn.Module, micro_batches: int) -> SlotCon:
    """SlotCon around an encoder of images (N, 3, S, S) to `SlotFeatures`."""
    return SlotCon(settings, encoder, Slots(settings), micro_batches)

"""What MoCo v2 and its descendants share: two encoders, shuffled keys, queues."""

from typing import Any

import torch
from torch import Tensor, nn

from cp2.augment.photometric import send
from cp2.augment.pipeline import PreparedBatch
from cp2.drawing.counters import KEY_SHUFFLE, QUEUE_VIEW
from cp2.methods.footing import PLAIN, Footing
from cp2.methods.keys import encode_shuffled, joined, prepare_batch_norm, shuffles
from cp2.methods.momentum import MomentumPair
from cp2.methods.objective import LossTerms, Objective, Vectors
from cp2.methods.queue import KeyQueue
from cp2.methods.step import Step, rising_momentum
from cp2.models.batch_norm import group_batch_norm, settle
from cp2.models.distributed import gather, rank
from cp2.settings.contrastive import ContrastiveSettings

Keys = tuple[Vectors, ...]  # of the key view; then, in a symmetric method, of the query view


class Contrastive(nn.Module):
    """A step is: `encode_keys`, then `forward` for each micro-batch, then `enqueue`.

    Only `forward` has a gradient. All take this process' share of the batch; the results are those
    of one process that holds the whole batch.

    Args:
        encoder: the query encoder; the key encoder starts as its copy.
        objective: what one view asks of the other.
        micro_batches: parts that a process encodes its share in, to save memory.
        predictor: on top of the query encoder; None: none.
        footing: momentum, direction and queues.
    """

    def __init__(
        self,
        settings: ContrastiveSettings,
        encoder: nn.Module,
        objective: Objective,
        micro_batches: int = 1,
        *,
        predictor: nn.Module | None = None,
        footing: Footing = PLAIN,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.footing = footing
        self.views = (0, 1) if footing.symmetric else (0,)  # of keys: the key view, the query view
        self.shuffled = shuffles(settings)
        self.micro_batches = micro_batches
        self.encoders = MomentumPair(encoder)
        self.predictor = predictor
        prepare_batch_norm(settings, self.encoders, micro_batches)
        if predictor is not None:
            group = settings.bn_group_size
            self.predictor = group_batch_norm(predictor, settings.batch_size, group, micro_batches)
        self.objective = objective

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the scalars that `forward` returns."""
        return self.objective.terms

    @torch.no_grad()
    def encode_keys(self, batch: PreparedBatch, step: Step) -> Keys:
        """Vectors of the key encoder, which first follows the query encoder by a step.

        In the images' order, float32.
        """
        first, last = self.settings.momentum, self.footing.momentum_end
        self.encoders.update(rising_momentum(first, last, step))
        images = (batch.images_k, batch.images_q)
        return tuple(self._keys(images[view], step, view) for view in self.views)

    def _keys(self, images: Tensor, step: Step, view: int) -> Vectors:
        whole = self.settings.batch_size
        if self.shuffled:
            order = torch.from_numpy(step.generator(KEY_SHUFFLE, view).permutation(whole))
            keys = encode_shuffled(self._encode, images, send(order, images.device))
        else:
            keys = self._encode(images)
        mine = slice(rank() * len(images), (rank() + 1) * len(images))
        for name, drawn in self.objective.draw(step, view, keys, whole).items():
            keys[name] = send(torch.from_numpy(drawn[mine]), images.device)
        return keys

    def _encode(self, images: Tensor) -> Vectors:
        parts = images.chunk(self.micro_batches)
        return joined([self.objective.keys(self.encoders.key(part)) for part in parts])

    def forward(self, batch: PreparedBatch, keys: Keys, step: Step) -> LossTerms:
        """A micro-batch's scalars, of which only `loss` has a gradient.

        Of a symmetric method `loss` is the sum over both directions, if its footing does not say
        otherwise; the others are means.
        """
        directions = []
        for view, vectors in zip(self.views, keys, strict=True):
            pair = batch.swapped() if view else batch
            directions.append(self.objective(self._query(pair.images_q), vectors, pair, step))
        if len(directions) == 1:
            return directions[0]
        terms = {name: torch.stack([d[name] for d in directions]).mean() for name in self.terms}
        losses = torch.stack([d["loss"] for d in directions])
        return terms | {
            "loss": losses.sum() if self.footing.view_losses == "sum" else losses.mean()
        }

    def _query(self, images: Tensor) -> Any:
        features = self.encoders.query(images)
        return features if self.predictor is None else self.predictor(features)

    @torch.no_grad()
    def enqueue(self, batch: PreparedBatch, keys: Keys, step: Step) -> None:
        """End of the step: its keys, of all processes, join the queues; statistics move on."""
        masks = (batch.mask_k, batch.mask_q)
        for view in self._joining(step):
            for name, vectors in self.objective.entries(keys[view], masks[view]).items():
                queue = self.objective.queues[name]
                assert isinstance(queue, KeyQueue)
                queue.enqueue(gather(vectors))
        settle(self, self.micro_batches)

    def _joining(self, step: Step) -> tuple[int, ...]:
        if len(self.views) == 1 or self.footing.queue_view == "key":
            return (0,)
        if self.footing.queue_view == "both":
            return self.views
        return (int(step.generator(QUEUE_VIEW).integers(2)),)

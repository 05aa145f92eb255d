"""Momentum contrast: the step that MoCo v2 and its descendants share (MoCo, Algorithm 1)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cp2.augment.photometric import send
from cp2.augment.pipeline import PreparedBatch
from cp2.drawing.counters import KEY_SHUFFLE, QUEUE_VIEW
from cp2.methods.momentum import KeyQueue, MomentumPair, rising_momentum
from cp2.methods.shuffle_bn import Vectors, bn_note, encode_shuffled, shuffles
from cp2.methods.step import LossTerms, Method, Step
from cp2.models.batch_norm import group_batch_norm
from cp2.models.distributed import gather, rank
from cp2.settings.contrastive import ContrastiveSettings, PlusSettings

Keys = tuple[Vectors, ...]  # of the key view; then, in a symmetric method, of the query view


class Objective(nn.Module, ABC):
    """The loss between features of a query view and keys of a key view; what tells methods apart.

    Args:
        queues: names of the queues of earlier keys; the first is that of whole views.
    Attributes:
        terms: names of the scalars that `forward` returns.
    """

    terms: tuple[str, ...] = ("loss", "loss_instance", "accuracy_instance")

    def __init__(self, dim: int, queue_size: int, queues: tuple[str, ...] = ("queue",)) -> None:
        super().__init__()
        self.queues = nn.ModuleDict({name: KeyQueue(dim, queue_size) for name in queues})

    def queue(self, name: str = "queue") -> Tensor:
        """Unit columns (dim, K)."""
        queue = self.queues[name]
        assert isinstance(queue, KeyQueue)
        return queue.queue

    @abstractmethod
    def keys(self, features: Any) -> Vectors:
        """Of the key encoder's output, what is compared and what joins the queues."""

    def draw(self, step: Step, view: int, keys: Vectors, batch_size: int) -> dict[str, Any]:
        """Random numbers that belong to the keys: (batch_size, ...) arrays for the whole batch."""
        return {}

    @abstractmethod
    def forward(self, features: Any, keys: Vectors, batch: PreparedBatch, step: Step) -> LossTerms:
        """Scalars named in `terms`, of which only `loss` has a gradient.

        Args:
            features: the query encoder's output.
            keys: what `keys` returned for the other view.
            batch: query view and key view.
            step: for what follows a schedule.
        """

    def entries(self, keys: Vectors, mask_k: Tensor | None) -> Vectors:
        """One unit vector an image, (N, dim), for each queue.

        Args:
            mask_k: masks of the key images, where the method composes images.
        """
        return {}

    def whole(self, keys: Vectors, mask: Tensor | None) -> Tensor | None:
        """One unit vector an image, (N, D), for `Method.health`; None: the method has none."""
        return self.entries(keys, mask).get("queue", keys.get("image"))

    def update(self, keys: Keys, step: Step) -> None:
        """After the step: move what else follows the keys of all views, such as a centre."""


class Contrastive(Method):
    """Method with a query encoder, a key encoder that follows it, and queues of earlier keys.

    Args:
        encoder: the query encoder; the key encoder starts as its copy.
        predictor: on top of the query encoder; None: none.
    Attributes:
        views: whose keys are made: 0 the key view's; in a symmetric method 1, the query view's.
        momentum_lag: see `rising_momentum`.
    """

    settings: ContrastiveSettings
    momentum_lag = 1

    def __init__(
        self,
        settings: ContrastiveSettings,
        encoder: nn.Module,
        objective: Objective,
        micro_batches: int = 1,
        *,
        predictor: nn.Module | None = None,
    ) -> None:
        super().__init__(settings, micro_batches)
        self.plus = settings if isinstance(settings, PlusSettings) else None
        self.views = (0, 1) if self.plus and self.plus.symmetric else (0,)
        self.encoders = MomentumPair(encoder)
        self.encoders.query = self.grouped(self.encoders.query)
        of_keys = None if settings.key_bn == "sync" else settings.bn_group_size
        self.encoders.key = group_batch_norm(
            self.encoders.key, settings.batch_size, of_keys, micro_batches
        )
        self.predictor = None if predictor is None else self.grouped(predictor)
        self.objective = objective
        self.grouped(objective)
        self.terms = objective.terms

    @property
    def encoders_of_images(self) -> tuple[nn.Module, ...]:
        """Query encoder and key encoder."""
        return self.encoders.query, self.encoders.key

    @property
    def extras(self) -> dict[str, dict[str, Tensor]]:
        """The queues."""
        return {"keys": {name: self.objective.queue(name) for name in self.objective.queues}}

    @property
    def notes(self) -> list[str]:
        """Of a `key_bn` that cannot do what it says."""
        note = bn_note(self.settings)
        return [note] if note else []

    def momentum(self, step: Step) -> float:
        """The key encoder's momentum in this step."""
        last = self.plus.momentum_end if self.plus else None
        return rising_momentum(self.settings.momentum, last, step, self.momentum_lag)

    @torch.no_grad()
    def before_step(self, batch: PreparedBatch, step: Step) -> Keys:
        """The key encoder follows the query encoder, then encodes the keys.

        Returns:
            Float32 vectors of each of `views`, in the images' order.
        """
        self.encoders.update(self.momentum(step))
        images = (batch.images_k, batch.images_q)
        return tuple(self._keys(images[view], step, view) for view in self.views)

    def _keys(self, images: Tensor, step: Step, view: int) -> Vectors:
        whole = self.settings.batch_size
        if shuffles(self.settings):
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
        return _joined([self.objective.keys(self.encoders.key(part)) for part in parts])

    def forward(self, batch: PreparedBatch, keys: Keys, step: Step) -> LossTerms:
        """The objective of the query view against the keys.

        Of a symmetric method `loss` is the sum over both directions, or their mean where its
        `view_losses` says so; the other terms are means.
        """
        directions = []
        for view, vectors in zip(self.views, keys, strict=True):
            pair = batch.swapped() if view else batch
            features = self.encode_query(pair.images_q)
            if self.watched and view == 0:
                self._see(features, vectors, pair)
            directions.append(self.objective(features, vectors, pair, step))
        if self.plus is None or len(directions) == 1:
            return directions[0]
        terms = {name: torch.stack([d[name] for d in directions]).mean() for name in self.terms}
        losses = torch.stack([d["loss"] for d in directions])
        return terms | {"loss": losses.sum() if self.plus.view_losses == "sum" else losses.mean()}

    @torch.no_grad()
    def _see(self, features: Any, keys: Vectors, batch: PreparedBatch) -> None:
        query = {**keys, **self.objective.keys(features)}
        q = self.objective.whole(query, batch.mask_q)
        k = self.objective.whole(keys, batch.mask_k)
        if q is not None and k is not None:
            self.see(q, k)

    @property
    def negatives(self) -> Tensor | None:
        return self.objective.queue() if "queue" in self.objective.queues else None

    def encode_query(self, images: Tensor) -> Any:
        """Features of images, with gradient, behind the predictor if there is one."""
        features = self.encoders.query(images)
        return features if self.predictor is None else self.predictor(features)

    @torch.no_grad()
    def after_step(self, batch: PreparedBatch, keys: Keys, step: Step) -> None:
        """The step's keys, of all processes, join the queues."""
        masks = (batch.mask_k, batch.mask_q)
        for view in self._joining(step):
            for name, vectors in self.objective.entries(keys[view], masks[view]).items():
                queue = self.objective.queues[name]
                assert isinstance(queue, KeyQueue)
                queue.enqueue(gather(vectors))
        self.objective.update(keys, step)
        super().after_step(batch, keys, step)

    def _joining(self, step: Step) -> tuple[int, ...]:
        """Views whose keys join the queues."""
        if self.plus is None or len(self.views) == 1 or self.plus.queue_view == "key":
            return (0,)
        if self.plus.queue_view == "both":
            return self.views
        return (int(step.generator(QUEUE_VIEW).integers(2)),)


def _joined(parts: Sequence[Vectors]) -> Vectors:
    """The keys of all micro-batches."""
    if len(parts) == 1:
        return parts[0]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

"""What one view asks of another: the part that tells methods apart."""

from typing import Any

from torch import Tensor, nn

from cp2.augment.pipeline import PreparedBatch
from cp2.methods.queue import KeyQueue
from cp2.methods.step import Step

LossTerms = dict[str, Tensor]
Vectors = dict[str, Tensor]  # by name, (N, ...)


class Objective(nn.Module):
    """Compares the features of a query view with the vectors of a key view.

    Subclasses say how; `Contrastive` makes the features, with or without gradient, and a step.

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

    def keys(self, features: Any) -> Vectors:
        """Of the key encoder's output, what is compared and what joins the queues."""
        raise NotImplementedError

    def draw(self, step: Step, view: int, keys: Vectors, batch_size: int) -> dict[str, Any]:
        """Random numbers that belong to the keys: (batch_size, ...) arrays for the whole batch."""
        return {}

    def forward(self, features: Any, keys: Vectors, batch: PreparedBatch, step: Step) -> LossTerms:
        """Scalars named in `terms`, of which only `loss` has a gradient.

        Args:
            features: the query encoder's output.
            keys: what `keys` returned for the other view.
            batch: query view and key view.
            step: for what follows a schedule.
        """
        raise NotImplementedError

    def entries(self, keys: Vectors, mask_k: Tensor | None) -> Vectors:
        """One unit vector an image, (N, dim), for each queue.

        Args:
            mask_k: masks of the key images, where the method composes images.
        """
        raise NotImplementedError

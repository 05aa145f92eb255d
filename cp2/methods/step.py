"""A step of pretraining: what every method does in it, and where in the run it stands."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cp2.augment.pipeline import PreparedBatch
from cp2.drawing import counters
from cp2.methods.health import health
from cp2.models.batch_norm import group_batch_norm, settle
from cp2.models.distributed import gather
from cp2.settings.contrastive import PretrainingSettings

LossTerms = dict[str, Tensor]


class Step(NamedTuple):
    """The step that is about to be made: `number` of `total`, from 0.

    All that a method draws or schedules is a function of it.
    """

    number: int
    total: int
    seed: int

    def generator(self, stream: int, view: int = 0) -> np.random.Generator:
        """Random numbers of this step for all processes alike."""
        return counters.generator(self.seed, stream, self.number, view)


class Method(nn.Module, ABC):
    """Base of the methods: `before_step`, `forward` for each micro-batch, `after_step`.

    Only `forward` has a gradient. All take this process' share of the batch; the results are those
    of one process that holds the whole batch. Parameters and buffers are all that a resume needs.

    Args:
        micro_batches: parts that a process encodes its share in, to save memory.
    Attributes:
        terms: names of the scalars that `forward` returns.
        watched: this step is logged, with what `health` says of it.
    """

    terms: tuple[str, ...] = ("loss",)
    watched = False

    def __init__(self, settings: PretrainingSettings, micro_batches: int = 1) -> None:
        super().__init__()
        self.settings = settings
        self.micro_batches = micro_batches
        self._seen: list[tuple[Tensor, Tensor]] = []

    def grouped(self, module: nn.Module) -> nn.Module:
        """The module, whose batch norm sees `bn_group_size` images at a time.

        Raises:
            UserError: the groups do not fit the processes and micro-batches.
        """
        settings = self.settings
        size, group = settings.batch_size, settings.bn_group_size
        return group_batch_norm(module, size, group, self.micro_batches)

    @property
    def encoders_of_images(self) -> tuple[nn.Module, ...]:
        """Networks that take images, (N, 3, S, S); those without gradient train nothing."""
        # Not abstract: only `compile` and the `exported` below ask for it.
        raise NotImplementedError

    @property
    def exported(self) -> nn.Module:
        """The network whose parts, by name, later stages start from."""
        return self.encoders_of_images[0]

    @property
    def extras(self) -> dict[str, dict[str, Tensor]]:
        """What else is written beside those parts, by name."""
        return {}

    @property
    def notes(self) -> list[str]:
        """What the log should say once, of settings that have no effect."""
        return []

    @torch.no_grad()
    def before_step(self, batch: PreparedBatch, step: Step) -> Any:
        """What `forward` needs that is made of the whole share of the batch.

        Returns:
            Tensors (N, ...) in tuples or dictionaries, which are cut into micro-batches as the
            images are; or None.
        """
        return None

    @abstractmethod
    def forward(self, batch: PreparedBatch, prepared: Any, step: Step) -> LossTerms:
        """Scalars of a micro-batch named in `terms`, of which only `loss` has a gradient.

        Args:
            prepared: what `before_step` returned.
        """

    def see(self, q: Tensor, k: Tensor) -> None:
        """Remember unit vectors (N, D) of a watched step's views, one an image, for `health`."""
        self._seen.append((q.detach(), k.detach()))

    @property
    def negatives(self) -> Tensor | None:
        """The queue of earlier vectors of whole views, unit columns (D, K); None: there is none."""
        return None

    def health(self) -> dict[str, Tensor]:
        """See `cp2.methods.health`, between a watched step's gradient and its end.

        All processes call it together. Nothing of methods without a vector an image.
        """
        seen, self._seen = self._seen, []
        if not seen:
            return {}
        q, k = (gather(torch.cat(vectors)) for vectors in zip(*seen, strict=True))
        return health(q, k, self.negatives, getattr(self.settings, "temperature", 1.0))

    @torch.no_grad()
    def after_step(self, batch: PreparedBatch, prepared: Any, step: Step) -> None:
        """After the optimiser: queues, centres and statistics move on."""
        settle(self, self.micro_batches)

"""The momentum encoder and the queue of its keys (MoCo sec. 3.2)."""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cp2.methods.step import Step


class MomentumPair(nn.Module):
    """A query encoder and its slowly following copy, which gets no gradient."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.query = encoder
        self.key = copy.deepcopy(encoder)
        self.key.requires_grad_(False)

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """key = momentum * key + (1 - momentum) * query, in one kernel a group of parameters.

        Parameters only: each encoder keeps its own batch-norm statistics (MoCo and CP² releases).
        """
        key: list[Tensor] = list(self.key.parameters())
        query: list[Tensor] = list(self.query.parameters())
        torch._foreach_lerp_(key, query, 1 - momentum)


def rising_momentum(first: float, last: float | None, step: Step, lag: int = 1) -> float:
    """The key encoder's momentum at the start of a step; it stays at `first` without a `last`.

    m(t) = last - (last - first) (1 + cos(pi t / total)) / 2 of step t = number - lag.

    Args:
        lag: 1: m(t) belongs to the update after step t, which is made at the start of step t + 1
            (BYOL's schedule; PixCon release). The one before step 0 changes nothing. 0: to the
            update at the start of step t itself (PixPro and SlotCon releases).
    """
    if last is None:
        return first
    done = max(step.number - lag, 0) / step.total
    return last - (last - first) * (1 + math.cos(math.pi * done)) / 2


class KeyQueue(nn.Module):
    """The last `size` keys, as unit columns of a (dim, size) buffer; starts with random ones.

    The pointer is a buffer too, named as in the MoCo release, and is never read by the host.
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.register_buffer("queue", F.normalize(torch.randn(dim, size), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest entries by keys (N, dim), wrapping at the end (CP² release).

        Of more keys than the queue holds, the last ones stay. Keys that are not finite (of a step
        that overflowed fp16) would spoil every later loss: the entries in their place stay.
        """
        size = self.queue.shape[1]
        kept = keys[-size:].to(self.queue.dtype)
        first = self.queue_ptr + (len(keys) - len(kept))
        columns = (first + torch.arange(len(kept), device=keys.device)) % size
        finite = kept.isfinite().all(1, keepdim=True)
        kept = torch.where(finite, kept, self.queue[:, columns].T)
        self.queue.index_copy_(1, columns, kept.T)
        self.queue_ptr.add_(len(keys)).remainder_(size)

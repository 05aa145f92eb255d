"""The momentum encoder (MoCo Eq. 2)."""

import copy

import torch
from torch import Tensor, nn


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

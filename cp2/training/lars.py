"""LARS: SGD whose rate each tensor scales by its own size (arXiv 1708.03888), in two forms."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cp2.settings.optimization import LarsSettings


class Lars(torch.optim.Optimizer):
    """With d = g + decay * p, a tensor's ratio is 1 where it does not count, else

    - released: trust |p| / |d|, or 1 where a norm is 0; b = momentum b + ratio d; p -= lr b
      (SlotCon and PixPro releases);
    - openselfsup: trust |p| / (|g| + decay |p|); b = momentum b + lr ratio d; p -= b. A tensor of
      zeros has ratio 1; the release would never move it.

    Groups without `scaled` have ratio 1. The device is not waited for.
    """

    def __init__(self, groups: list[dict[str, Any]], settings: LarsSettings) -> None:
        super().__init__(groups, {"lr": settings.lr, "scaled": True})
        self._settings = settings

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update by the gradients."""
        for group in self.param_groups:
            self._update([p for p in group["params"] if p.grad is not None], group)

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        if not params:
            return
        early = self._settings.form == "openselfsup"
        gradients = [p.grad for p in params if p.grad is not None]
        steps = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
        if group["scaled"]:
            sizes = torch.stack(torch._foreach_norm(params))
            against = torch.stack(torch._foreach_norm(gradients if early else steps))
            if early:
                against = against + group["weight_decay"] * sizes
            ratios = self._settings.trust * sizes / against
            ratios = torch.where((sizes > 0) & (against > 0), ratios, 1.0)
            torch._foreach_mul_(steps, list(ratios.unbind()))
        if early:
            torch._foreach_mul_(steps, group["lr"])
        buffers: list[Tensor] = [
            self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in params
        ]
        torch._foreach_mul_(buffers, self._settings.momentum)
        torch._foreach_add_(buffers, steps)
        torch._foreach_add_(params, buffers, alpha=-1.0 if early else -group["lr"])

"""Running statistics of batch norms: over many batches at once, or left as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cp2.models.distributed import add_up


@contextmanager
def precise_statistics(module: nn.Module) -> Iterator[None]:
    """PreciseBN around forward passes in training mode: afterwards the running mean and variance
    are those of all that every norm was given meanwhile, by all processes together.

    Source: Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", sec. 3; fvcore's implementation.
    """
    seen: dict[_BatchNorm, Tensor] = {}  # (3, C): number of values, sum, sum of squares

    def look(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach()
        count = x.numel() // x.shape[1]
        if not count:
            return
        variance, mean = torch.var_mean(x.float(), [0, *range(2, x.ndim)], correction=0)
        mean, variance = mean.double(), variance.double()
        moments = torch.stack([torch.ones_like(mean), mean, variance + mean**2]) * count
        seen[norm] = seen[norm] + moments if norm in seen else moments

    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        own = seen.get(norm, torch.zeros(3, norm.num_features, dtype=torch.float64))
        count, total, squares = add_up(own.to(norm.running_mean.device))
        if (count > 0).all():
            mean = total / count
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(squares / count - mean**2)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Around a forward pass that repeats one: it moves no running statistics."""
    norms = [one for one in module.modules() if isinstance(one, _BatchNorm)]
    momenta = [one.momentum for one in norms]
    try:
        for one in norms:
            one.momentum = 0.0
        yield
    finally:
        for one, momentum in zip(norms, momenta, strict=True):
            one.momentum = momentum
            if one.num_batches_tracked is not None:
                one.num_batches_tracked.sub_(1)

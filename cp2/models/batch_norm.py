"""Batch norm over a fixed number of images, whatever the processes and micro-batches hold.

The published recipes name a batch a GPU (MoCo: 32, CP²: 64), which is at the same time the number
of images that batch norm sees. Here that number is a setting, so that one GPU or eight compute the
same: a share of several groups is normalised group by group, a share that is a part of a group
exchanges its statistics with the other parts. Running statistics follow the mean over all groups.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules._functions import SyncBatchNorm as SyncBatchNormFunction
from torch.nn.modules.batchnorm import _BatchNorm

from cp2.errors import UserError
from cp2.models.devices import choose_device
from cp2.models.distributed import add_up, rank, world_size


class _InPlaceOf(_BatchNorm):
    """A batch norm with another one's parameters and statistics, for every shape (N, C, ...)."""

    running_mean: Tensor  # torch allows None, which is no statistics; here they are always kept
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        # The very parameters and buffers, so that state dicts and optimisers see no change.
        self._parameters, self.training = norm._parameters, norm.training
        self._buffers.update(norm._buffers)

    def _check_input_dim(self, input: Tensor) -> None:
        """Every shape will do."""


class GroupedBatchNorm(_InPlaceOf):
    """Each run of `group` images of a batch is normalised by itself ("ghost" batch norm).

    The running statistics move only in `settle`, so that a step of several micro-batches moves
    them once.
    """

    seen_mean: Tensor
    seen_var: Tensor

    def __init__(self, norm: _BatchNorm, group: int) -> None:
        super().__init__(norm)
        self.group = group
        for name in ("seen_mean", "seen_var"):  # summed over the step's micro-batches
            self.register_buffer(name, torch.zeros_like(self.running_mean), persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        if len(input) % self.group:
            raise UserError(f"{len(input)} images are no multiple of bn_group_size {self.group}")
        parts = input.split(self.group)
        # With momentum 1 the kernel leaves the group's own mean and unbiased variance here.
        means, variances = self.running_mean.new_zeros(2, len(parts), self.num_features)
        outputs = [
            F.batch_norm(part, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            for part, mean, variance in zip(parts, means, variances, strict=True)
        ]
        self.seen_mean.add_(means.mean(0))
        self.seen_var.add_(variances.mean(0))
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


class SharedBatchNorm(_InPlaceOf):
    """One group of rows that lies on several processes (synchronised batch norm).

    The processes may hold different numbers of rows, or none.
    """

    def __init__(self, norm: _BatchNorm, processes: Any, parts: int) -> None:
        super().__init__(norm)
        self.processes, self.parts = processes, parts

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        output, mean, variance, count = _Shared.apply(
            input, self.weight, self.bias, self.eps, self.processes, self.parts
        )
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            unbiased = variance * (count / (count - 1).clamp(min=1)).to(variance.dtype)
            self.running_var.lerp_(unbiased, self.momentum)
            self.num_batches_tracked.add_(1)
        return output


class FusedBatchNorm(SharedBatchNorm):
    """The same by torch's fused kernels of GPUs; every process holds rows.

    Unlike torch's own SyncBatchNorm, no layer makes the host wait for the device: that one looks
    for processes without rows.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self.num_batches_tracked.add_(1)
        running = self.running_mean, self.running_var
        output: Tensor = _Fused.apply(
            *(input, self.weight, self.bias, *running, self.eps, self.momentum),
            *(self.processes, self.parts),
        )
        return output


class _Fused(SyncBatchNormFunction):
    """torch's function with a forward pass that asks the device for nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *others: Any) -> Tensor:
        running_mean, running_var, eps, momentum, processes, parts = others
        if not (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)):
            x = x.contiguous()
        mean, scale = torch.batch_norm_stats(x, eps)
        own = torch.cat([mean, scale, mean.new_full((1,), x.numel() // x.shape[1])])
        everyone = own.new_empty(parts, len(own))
        distributed.all_gather_into_tensor(everyone, own, group=processes)
        means, scales, counts = everyone.split(x.shape[1], dim=1)
        mean, scale = torch.batch_norm_gather_stats_with_counts(
            x, means, scales, running_mean, running_var, momentum, eps, counts.flatten()
        )
        ctx.save_for_backward(x, weight, mean, scale, counts.to(torch.int32))
        ctx.process_group = processes
        return torch.batch_norm_elemt(x, weight, bias, mean, scale, eps)


class _Shared(torch.autograd.Function):
    """Normalisation whose sums, forward and backward, run over several processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, processes: Any, parts: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = [0, *range(2, x.ndim)]
        rows = x.numel() // x.shape[1]
        variance, mean = torch.zeros(2, x.shape[1], device=x.device)
        if rows:
            variance, mean = torch.var_mean(x.float(), dims, correction=0)
        # Moments of the parts are merged by their distance; squares of sums would cost digits.
        own = torch.stack([mean, variance, torch.full_like(mean, rows)])
        everyone = [torch.empty_like(own) for _ in range(parts)]
        distributed.all_gather(everyone, own, group=processes)
        means, variances, counts = torch.stack(everyone, 1)
        counts = counts.double()
        count = counts[:, 0].sum()
        weights = (counts * parts / count.clamp(min=1)).float()  # 1 where all hold as many rows
        mean = (means * weights).mean(0)
        variance = (variances * weights).mean(0) + ((means - mean).square() * weights).mean(0)
        scale = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, weight, mean, scale, count)
        ctx.processes, ctx.dims = processes, dims
        normal = (x.float() - _spread(mean, x)) * _spread(scale * weight, x)
        ctx.mark_non_differentiable(mean, variance, count)
        return (normal + _spread(bias, x)).to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        incoming = gradient.float()
        normal = (x.float() - _spread(mean, x)) * _spread(scale, x)
        local = torch.stack([incoming.sum(ctx.dims), (incoming * normal).sum(ctx.dims)])
        total = local.clone()
        distributed.all_reduce(total, group=ctx.processes)
        total /= count
        inner = incoming - _spread(total[0], x) - normal * _spread(total[1], x)
        return (
            (inner * _spread(scale * weight, x)).to(x.dtype),
            local[1].to(weight.dtype),
            local[0].to(weight.dtype),
            None,
            None,
            None,
        )


def _spread(channels: Tensor, x: Tensor) -> Tensor:
    """(C,) against (N, C, ...)."""
    return channels.view(1, -1, *[1] * (x.ndim - 2))


def group_batch_norm(
    module: nn.Module, batch_size: int, group_size: int | None, micro_batches: int = 1
) -> nn.Module:
    """Make batch norm see `group_size` images at a time; None or more than the batch: all of it.

    Plain batch norm stays where a process' batch is one group.

    Args:
        batch_size: over all processes and micro-batches; every process calls this alike.

    Raises:
        UserError: the groups cannot be laid onto the micro-batches; names what can.
    """
    group = min(group_size or batch_size, batch_size)
    share = check_shares(batch_size, micro_batches)
    if not any(isinstance(child, _BatchNorm) for child in module.modules()):
        return module
    if share % group == 0:
        if share == group and micro_batches == 1:
            return module
        return _replace(module, lambda norm: GroupedBatchNorm(norm, group))
    micro = f" in {micro_batches} micro-batches" if micro_batches > 1 else ""
    if group % share or micro_batches > 1:
        raise UserError(
            f"batch norm over groups of {group} images (bn_group_size) does not fit {batch_size} "
            f"images on {world_size()} process(es){micro}, which are {share} at a time: other "
            "groups would give other numbers. Use fewer micro-batches (--accumulate), another "
            f"number of processes, or a recipe with a bn_group_size that divides {share}"
        )
    processes = _neighbours(group // share)
    # By where the module goes.
    kind = FusedBatchNorm if choose_device().type == "cuda" else SharedBatchNorm
    return _replace(module, lambda norm: kind(norm, processes, group // share))


def check_shares(batch_size: int, micro_batches: int) -> int:
    """Images of one micro-batch of one process.

    Raises:
        UserError: the batch cannot be shared evenly.
    """
    pieces = world_size() * micro_batches
    if batch_size % pieces:
        raise UserError(
            f"batch_size {batch_size} cannot be shared evenly by {world_size()} processes x "
            f"{micro_batches} micro-batches; choose numbers whose product divides it"
        )
    return batch_size // pieces


def _neighbours(count: int) -> Any:
    """The process group of `count` consecutive processes that this one belongs to."""
    if count == world_size():
        return distributed.group.WORLD
    starts = range(0, world_size(), count)
    groups = [distributed.new_group(list(range(first, first + count))) for first in starts]
    return groups[rank() // count]


def _replace(module: nn.Module, make: Any) -> nn.Module:
    if isinstance(module, _BatchNorm):
        replaced: nn.Module = make(module)
        if hasattr(module, "act"):  # timm's norms that end with an activation
            rest = nn.Sequential(module.drop, module.act)  # type: ignore[arg-type]
            replaced.register_forward_hook(lambda _, inputs, output: rest(output))
        return replaced
    for name, child in module.named_children():
        setattr(module, name, _replace(child, make))
    return module


@torch.no_grad()
def settle(module: nn.Module, micro_batches: int) -> None:
    """After a step: move the running statistics towards the mean over the step's groups."""
    norms = [m for m in module.modules() if isinstance(m, GroupedBatchNorm)]
    if not norms:
        return
    for seen, running in (("seen_mean", "running_mean"), ("seen_var", "running_var")):
        sums: list[Tensor] = [getattr(norm, seen) for norm in norms]
        averages: list[Tensor] = [getattr(norm, running) for norm in norms]
        means = torch._foreach_div(sums, micro_batches)
        torch._foreach_lerp_(averages, means, norms[0].momentum or 0.1)
        torch._foreach_zero_(sums)
    counts: list[Tensor] = [norm.num_batches_tracked for norm in norms]
    torch._foreach_add_(counts, 1)


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Before a save: running statistics become their mean over the processes.

    They are linear in what the steps saw, so this gives what an exchange in each step would.
    Every process calls it.
    """
    if world_size() == 1:
        return
    statistics: list[Tensor] = []
    for norm in module.modules():
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None:
            statistics += [norm.running_mean, norm.running_var]  # type: ignore[list-item]
    if not statistics:
        return
    flat = add_up(torch.cat(statistics)) / world_size()
    for own, mean in zip(statistics, flat.split([len(s) for s in statistics]), strict=True):
        own.copy_(mean)

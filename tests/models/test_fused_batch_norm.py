"""Synchronised batch norm of GPUs, with formulas in place of torch's fused kernels."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from cp2.models import batch_norm
from cp2.models.batch_norm import FusedBatchNorm


def _sum(x: Tensor) -> Tensor:
    return x.sum([0, *range(2, x.ndim)])


def _wide(channels: Tensor, x: Tensor) -> Tensor:
    return channels.view(1, -1, *[1] * (x.ndim - 2))


def stats(x, eps):
    rows = x.numel() / x.shape[1]
    mean = _sum(x) / rows
    return mean, (_sum((x - _wide(mean, x)) ** 2) / rows + eps).rsqrt()


def gather_stats(x, means, scales, running_mean, running_var, momentum, eps, counts):
    total, shares = counts.sum(), (counts / counts.sum())[:, None]
    mean = (means * shares).sum(0)
    variance = ((scales**-2 - eps + (means - mean) ** 2) * shares).sum(0)
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(variance * total / (total - 1), momentum)
    return mean, (variance + eps).rsqrt()


def elemt(x, weight, bias, mean, scale, eps):
    return (x - _wide(mean, x)) * _wide(scale * weight, x) + _wide(bias, x)


def backward_reduce(dy, x, mean, scale, weight, *_):
    dot = _sum(dy * (x - _wide(mean, x)))
    return _sum(dy), dot, dot * scale, _sum(dy)


def backward_elemt(dy, x, mean, scale, weight, sum_dy, dot, counts):
    total = counts.sum()
    inner = dy - _wide(sum_dy / total, x)
    inner = inner - (x - _wide(mean, x)) * _wide(scale**2 * dot / total, x)
    return inner * _wide(scale * weight, x)


KERNELS = {
    "batch_norm_stats": stats,
    "batch_norm_gather_stats_with_counts": gather_stats,
    "batch_norm_elemt": elemt,
    "batch_norm_backward_reduce": backward_reduce,
    "batch_norm_backward_elemt": backward_elemt,
}


class AsksNothing(TorchDispatchMode):
    """Refuses what makes the host wait for a GPU: values, and shapes that follow from values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "index"), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5, 7)])
@pytest.mark.parametrize("parts", [1, 2])
def test_it_is_batch_norm_over_all_processes_and_asks_the_device_for_nothing(
    shape, parts, monkeypatch
):
    """Every process holds the same rows here, so that one can stand for all."""
    for name, formula in KERNELS.items():
        monkeypatch.setattr(torch, name, formula)
    monkeypatch.setattr(
        batch_norm.distributed,
        "all_gather_into_tensor",
        lambda out, own, group: out.copy_(own.expand_as(out)),
    )
    monkeypatch.setattr(
        batch_norm.distributed, "all_reduce", lambda tensor, *_, **__: tensor.mul_(parts)
    )
    torch.manual_seed(0)
    plain = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    fused = FusedBatchNorm(type(plain)(3), None, parts)
    fused.load_state_dict(plain.state_dict())
    x, dy = torch.randn(shape), torch.randn(shape)
    whole = x.repeat(parts, *[1] * (len(shape) - 1)).requires_grad_()
    mine = x.clone().requires_grad_()
    expected = plain(whole)
    expected.backward(dy.repeat(parts, *[1] * (len(shape) - 1)))
    with AsksNothing():
        found = fused(mine)
        found.backward(dy)
    torch.testing.assert_close(found, expected[: len(x)])
    torch.testing.assert_close(mine.grad, whole.grad[: len(x)], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(parts * fused.weight.grad, plain.weight.grad, atol=1e-5, rtol=1e-4)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(fused.state_dict()[name], value)
    torch.testing.assert_close(fused.eval()(x), plain.eval()(x))

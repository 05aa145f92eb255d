"""Optimisers, learning rates and mixed precision of both loops."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cp2.models.devices import tensor_float
from cp2.settings.optimization import (
    AdamWSettings,
    CosineSettings,
    LarsSettings,
    OptimizerSettings,
    PolySettings,
    SgdSettings,
    StepSettings,
)
from cp2.training.lars import Lars

_TOKENS = ("pos_embed", "cls_token")
Named = list[tuple[str, nn.Parameter]]
Groups = list[dict[str, Any]]


def build_optimizer(settings: OptimizerSettings, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of this kind over the parameters that have a gradient.

    Parameters on a GPU are updated by one fused kernel a group. It computes the same as the
    unfused optimiser, which the CPU keeps, up to the order of its roundings.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    fused = all(p.is_cuda for _, p in named) or None  # None: torch's choice
    norms = {id(p) for m in module.modules() if isinstance(m, _BatchNorm) for p in m.parameters()}
    exempt: dict[str, Callable[[str, nn.Parameter], bool]] = {
        "none": lambda name, p: False,
        "norm": lambda name, p: id(p) in norms,
        "norm-pos-cls": lambda name, p: p.ndim <= 1 or name.endswith(_TOKENS),
        "lars-released": lambda name, p: p.ndim <= 1,
        "lars-openselfsup": lambda name, p: (
            p.ndim <= 1 and not name.endswith("downsample.1.weight")
        ),
        "mmsegmentation": lambda name, p: any(key in name for key in ("norm", *_TOKENS)),
    }
    groups = _groups(named, settings.weight_decay, exempt[settings.no_decay])
    return OPTIMIZERS[settings.kind](settings, groups, fused)


def _groups(
    named: Named, weight_decay: float, exempt: Callable[[str, nn.Parameter], bool]
) -> Groups:
    """Parameters that decay, and those that do not."""
    decayed = [p for name, p in named if not exempt(name, p)]
    free = [p for name, p in named if exempt(name, p)]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _sgd(settings: SgdSettings, groups: Groups, fused: bool | None) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=fused)


def _adamw(settings: AdamWSettings, groups: Groups, fused: bool | None) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)


def _lars(settings: LarsSettings, groups: Groups, fused: bool | None) -> torch.optim.Optimizer:
    scaled = [group | {"scaled": any(p.ndim > 1 for p in group["params"])} for group in groups]
    return Lars(scaled, settings)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "lars": _lars,
}


def cosine_lr(
    base: float, settings: CosineSettings, epoch: int, fraction: float, epochs: int
) -> float:
    """The rate of a step; see `CosineSettings` (MoCo release; CP² release).

    Args:
        epoch: whole epochs done.
        fraction: share of the current epoch done; only `by: step` uses it.
        epochs: of the whole run.
    """
    now = epoch + (fraction if settings.by == "step" else 0.0)
    warmup, ratio = settings.warmup_epochs, settings.warmup_ratio
    if epoch + fraction < warmup:
        return base * ratio + (1 - ratio) * (base * (epoch + fraction) / warmup)
    before = min(warmup, now) if settings.after_warmup else 0.0
    angle = math.pi * (now - before) / (epochs - before)
    return settings.min_lr + (base - settings.min_lr) * 0.5 * (1 + math.cos(angle))


def poly_lr(base: float, settings: PolySettings, iteration: int, iterations: int) -> float:
    """(base - min) (1 - t)^power + min, after a linear warm-up (mmcv's poly schedule)."""
    decay = (1 - iteration / iterations) ** settings.power
    lr = (base - settings.min_lr) * decay + settings.min_lr
    if iteration < settings.warmup_iterations:
        share = iteration / settings.warmup_iterations
        lr *= settings.warmup_ratio + (1 - settings.warmup_ratio) * share
    return lr


def step_lr(base: float, settings: StepSettings, iteration: int, iterations: int) -> float:
    """base * factor^k from the k-th milestone's iteration on, after a linear warm-up (mmcv's and
    detectron2's step schedule)."""
    passed = sum(iteration >= round(share * iterations) for share in settings.milestones)
    lr = base * settings.factor**passed
    if iteration < settings.warmup_iterations:
        share = iteration / settings.warmup_iterations
        lr *= settings.warmup_ratio * (1 - share) + share
    return lr


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def align_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Lay out each gradient as its parameter, which fused kernels insist on.

    In channels-last models the gradients of 1x1 convolutions may differ, in the strides of sides
    of length 1 only (pytorch issue 106951). Only strides are looked at, so nobody waits.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is not None and gradient.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(gradient)


class Precision:
    """Mixed precision `off`, `bf16` or `fp16` (the last with loss scaling), or `ieee`.

    `off` leaves networks in float32, whose products and convolutions are TF32 on GPUs that have it,
    as they were in the PyTorch of the releases; `ieee` is float32 throughout. Augmentation and
    losses always are.

    Attributes:
        text: what a GPU computes in, for the log.
    """

    def __init__(self, amp: str, device: torch.device) -> None:
        self._device = device
        self._tensor_float = amp != "ieee"
        rest = "float32 (TF32 in products and convolutions of networks)"
        self.text = {"off": rest, "ieee": "float32"}.get(amp, f"{amp}, else {rest}")
        self._dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(amp)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Around the forward pass."""
        mixed = torch.autocast(self._device.type, dtype=self._dtype) if self._dtype else None
        with tensor_float(self._tensor_float), mixed or nullcontext():
            yield

    def backward(self, loss: torch.Tensor) -> None:
        """Add to the gradients."""
        with tensor_float(self._tensor_float):
            self.scaler.scale(loss).backward()

    def gradient_norm(self, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        """Length of the gradient of all parameters, without the loss's scale."""
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        gradients = [p.grad for p in parameters if p.grad is not None]
        return nn.utils.get_total_norm(gradients) / self.scaler.get_scale()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the parameters; the gradients are used up."""
        align_gradients(optimizer)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)

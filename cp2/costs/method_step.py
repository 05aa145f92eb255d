"""GFLOP of one step of a method, counted over a batch without content."""

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from cp2.augment.pipeline import PreparedBatch
from cp2.methods.step import Method, Step

LEARNS, FOLLOWS = 3, 1  # forward passes that a pass costs, with and without gradient
GIGA = 1e9


def empty_batch(count: int, side: int) -> PreparedBatch:
    """A batch without content, of so many samples with views of so many pixels a side."""
    images, masks = torch.empty(count, 3, side, side), torch.empty(count, 1, side, side)
    return PreparedBatch(images, images, masks, masks, torch.empty(count, 2, 7, dtype=torch.long))


def step_gflop(method: Method) -> float:
    """Of a sample, by a step over a batch without content.

    Each outermost network, which is a module with parameters, is counted as it is called.
    """
    settings = method.settings
    n = settings.batch_size
    batch, step = empty_batch(n, settings.views.crop_size), Step(0, 1, 0)
    called: list[float] = []  # counts at the begin of calls that are not over
    flop = 0.0

    def begin(*_: Any) -> None:
        called.append(counter.get_total_flops())

    def end(network: nn.Module, *_: Any) -> None:
        nonlocal flop
        before = called.pop()
        if not called:
            learns = any(parameter.requires_grad for parameter in network.parameters())
            flop += (LEARNS if learns else FOLLOWS) * (counter.get_total_flops() - before)

    handles: list[RemovableHandle] = []
    for module in method.modules():
        if module is not method and any(True for _ in module.parameters()):
            handles += module.register_forward_pre_hook(begin), module.register_forward_hook(end)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        prepared = method.before_step(batch, step)
        method(batch, prepared, step)
    for handle in handles:
        handle.remove()
    return flop / n / GIGA

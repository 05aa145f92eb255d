"""Channels last in memory, as on GPUs, the same numbers come out."""

import copy
from collections.abc import Callable

import pytest
import torch

from cp2.augment.pipeline import PreparedBatch
from cp2.methods.step import Step
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.load import Configuration
from cp2.training.optimizers import Precision
from cp2.training.pretrain import build


@pytest.mark.parametrize("name", ["cp2", "moco-v2"])
@pytest.mark.parametrize(("amp", "tolerance"), [("off", 1e-4), ("bf16", 5e-2)])
def test_loss_gradient_and_queue(
    tiny: tuple[Configuration, Plan],
    find: Callable[[str], Run],
    name: str,
    amp: str,
    tolerance: float,
) -> None:
    recipe = find(name).recipe
    assert isinstance(recipe, PretrainRecipe)
    torch.manual_seed(0)
    planes, _ = build(recipe, tiny[0].results)
    planes.train()
    last = copy.deepcopy(planes).to(memory_format=torch.channels_last)
    views = torch.randn(2, 4, 3, 32, 32)
    masks = torch.zeros(2, 4, 1, 32, 32)
    masks[:, :, :, 3:27, 2:25] = 1
    precision = Precision(amp, torch.device("cpu"))
    found = []
    for method, layout in (
        (planes, torch.contiguous_format),
        (last, torch.channels_last),
    ):
        images = [view.contiguous(memory_format=layout) for view in views]
        batch = PreparedBatch(*images, *masks, view_boxes=torch.zeros(4, 2, 5, dtype=torch.long))
        step = Step(0, 10, 0)
        with precision.autocast():
            keys = method.before_step(batch, step)
            loss = method(batch, keys, step)["loss"]
        loss.backward()
        method.after_step(batch, keys, step)
        gradients = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
        found.append((loss.detach(), method.objective.queue(), gradients))
    (loss, queue, gradients), (loss_last, queue_last, gradients_last) = found
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss_last, loss, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(queue_last, queue, rtol=tolerance, atol=tolerance)
    assert gradients.keys() == gradients_last.keys() != set()
    scale = max(float(g.abs().max()) for g in gradients.values())
    for key, gradient in gradients.items():
        error = float((gradients_last[key] - gradient).abs().max())
        assert error <= tolerance * scale, key

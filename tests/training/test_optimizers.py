"""Learning rates against the published schedules; weight decay groups."""

import itertools
import math

import pytest
import tiny
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from cp2.models.segmentor_files import build_segmentor
from cp2.settings.models import FcnSettings
from cp2.settings.optimization import AdamWSettings, CosineSettings, PolySettings, SgdSettings
from cp2.training.optimizers import align_gradients, build_optimizer, cosine_lr, poly_lr


def test_cosine_by_epoch_is_constant_within_an_epoch() -> None:
    settings = CosineSettings()
    for epoch in range(20):
        expected = 0.03 * 0.5 * (1 + math.cos(math.pi * epoch / 20))
        for fraction in (0.0, 0.5, 0.99):
            assert cosine_lr(0.03, settings, epoch, fraction, 20) == pytest.approx(expected)
    # Quick Tuning's last epoch runs at 0.6 % of the base rate.
    assert cosine_lr(0.03, settings, 19, 0.0, 20) / 0.03 == pytest.approx(0.006156, abs=1e-5)


def test_cosine_by_step_and_warm_up() -> None:
    settings = CosineSettings(by="step", warmup_epochs=2.0)
    assert cosine_lr(1.0, settings, 0, 0.0, 10) == 0.0
    assert cosine_lr(1.0, settings, 1, 0.5, 10) == pytest.approx(0.75)
    expected = 0.5 * (1 + math.cos(math.pi * 5.5 / 10))
    assert cosine_lr(1.0, settings, 5, 0.5, 10) == pytest.approx(expected)


def test_a_cosine_after_the_warm_up_with_a_floor():
    """SlotCon's: from lr / 100 in 5 epochs to lr, over the rest to 1e-6 (its release, by step)."""
    settings = CosineSettings(
        by="step", warmup_epochs=5.0, warmup_ratio=0.01, after_warmup=True, min_lr=1e-6
    )
    for step in range(800 * 4):
        if step < 20:
            expected = 2.0 * (0.01 + 0.99 * step / 20)
        else:
            share = (step - 20) / (800 * 4 - 20)
            expected = 1e-6 + (2.0 - 1e-6) * (1 + math.cos(math.pi * share)) / 2
        epoch, position = divmod(step, 4)
        assert cosine_lr(2.0, settings, epoch, position / 4, 800) == pytest.approx(expected)
    assert cosine_lr(2.0, settings, 800, 0.0, 800) == pytest.approx(1e-6)


def test_poly_starts_at_the_base_rate_and_falls_to_the_minimum() -> None:
    settings = PolySettings(power=0.9, min_lr=1e-4)
    rates = [poly_lr(0.003, settings, i, 100) for i in range(101)]
    assert rates[0] == pytest.approx(0.003)
    assert rates[-1] == pytest.approx(1e-4)
    assert all(a > b for a, b in itertools.pairwise(rates))
    assert rates[50] == pytest.approx((0.003 - 1e-4) * 0.5**0.9 + 1e-4)


def test_poly_warm_up_rises_from_the_ratio() -> None:
    settings = PolySettings(power=1.0, min_lr=0.0, warmup_iterations=10, warmup_ratio=1e-6)
    assert poly_lr(1.0, settings, 0, 100) == pytest.approx(1e-6)
    assert poly_lr(1.0, settings, 5, 100) == pytest.approx(0.95 * (1e-6 + (1 - 1e-6) * 0.5))
    assert poly_lr(1.0, settings, 10, 100) == pytest.approx(0.9)


class _Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.LayerNorm(2)
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, 2))
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)


def test_adamw_frees_norms_biases_and_positions_on_request() -> None:
    module = _Tiny()
    free = AdamWSettings(kind="adamw", lr=1e-3, weight_decay=0.01, no_decay="norm-pos-cls")
    groups = build_optimizer(free, module).param_groups
    assert [g["weight_decay"] for g in groups] == [0.01, 0.0]
    assert [len(g["params"]) for g in groups] == [1, 4]
    every = AdamWSettings(kind="adamw", lr=1e-3, weight_decay=0.01)
    assert [len(g["params"]) for g in build_optimizer(every, module).param_groups] == [5]


def test_mmsegmentation_frees_what_its_custom_keys_name() -> None:
    """`custom_keys=dict(pos_embed=..., cls_token=..., norm=...)`: parts of names, not shapes."""
    settings = tiny.vit(final_norm=True)
    head = FcnSettings(kind="fcn", name="h", title="", channels=8)
    module = build_segmentor(settings, head, 3)
    free = AdamWSettings(kind="adamw", lr=1e-3, weight_decay=0.01, no_decay="mmsegmentation")
    names = {id(p): name for name, p in module.named_parameters()}
    decayed, freed = build_optimizer(free, module).param_groups
    assert (decayed["weight_decay"], freed["weight_decay"]) == (0.01, 0.0)
    assert sorted(names[id(p)].removeprefix("backbone.") for p in freed["params"]) == [
        "blocks.0.norm1.bias",
        "blocks.0.norm1.weight",
        "blocks.0.norm2.bias",
        "blocks.0.norm2.weight",
        "cls_token",
        "norm.bias",
        "norm.weight",
        "pos_embed",
    ]
    kept = {names[id(p)] for p in decayed["params"]}
    assert {"backbone.blocks.0.attn.qkv.bias", "head.convs.0.bn.weight", "conv_seg.bias"} <= kept


def test_sgd_decays_everything_as_moco_does() -> None:
    settings = SgdSettings(kind="sgd", lr=0.03, weight_decay=1e-4)
    (group,) = build_optimizer(settings, _Tiny()).param_groups
    assert (group["momentum"], group["weight_decay"], len(group["params"])) == (0.9, 1e-4, 5)


SETTINGS = [
    SgdSettings(kind="sgd", lr=0.03, weight_decay=1e-4),
    AdamWSettings(kind="adamw", lr=1e-3, weight_decay=0.01, no_decay="norm-pos-cls"),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=["sgd", "adamw"])
@pytest.mark.parametrize(("device", "fused"), [("cpu", False), ("cuda", True)])
def test_updates_are_fused_on_a_gpu(
    settings: SgdSettings | AdamWSettings, device: str, fused: bool
) -> None:
    with FakeTensorMode():
        module = nn.Linear(3, 2, device=device)
        optimizer = build_optimizer(settings, module)
    assert all(bool(group["fused"]) is fused for group in optimizer.param_groups)


@pytest.mark.parametrize("settings", SETTINGS, ids=["sgd", "adamw"])
def test_fused_updates_are_the_same_updates(settings: SgdSettings | AdamWSettings) -> None:
    torch.manual_seed(0)
    start = torch.randn(4, 3)
    ends = []
    for fused in (False, True):
        parameter = nn.Parameter(start.clone())
        optimizer = build_optimizer(settings, nn.ParameterList([parameter]))
        for group in optimizer.param_groups:
            group["fused"] = fused
        for step in range(5):
            parameter.grad = (start + step).sin()
            optimizer.step()
        ends.append(parameter.detach())
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-7)


def test_gradients_are_laid_out_as_their_parameters() -> None:
    conv = nn.Conv2d(4, 8, 1).to(memory_format=torch.channels_last)
    gradient = torch.randn(8, 4, 1, 1)  # the same memory, other strides of the sides of length 1
    assert gradient.stride() != conv.weight.stride()
    conv.weight.grad = gradient.clone()
    align_gradients(torch.optim.SGD(conv.parameters(), lr=0.1))
    assert conv.weight.grad.stride() == conv.weight.stride()
    assert torch.equal(conv.weight.grad, gradient)

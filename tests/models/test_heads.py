import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cp2.errors import UserError
from cp2.models.heads import build_head
from cp2.settings.models import AsppSettings, FcnSettings

ASPP = AsppSettings(kind="aspp", name="a", title="A", channels=4, dilations=(1, 2, 3))
FCN = FcnSettings(kind="fcn", name="f", title="F", channels=4, dilation=2)


def block(x, state, name, dilation=1):
    """Convolution, batch norm with running statistics, ReLU."""
    weight = state[f"{name}.conv.weight"]
    padding = dilation * (weight.shape[-1] // 2)
    y = F.conv2d(x, weight, padding=padding, dilation=dilation)
    mean, var = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
    scale = state[f"{name}.bn.weight"] / (var + 1e-5).sqrt()
    shift = state[f"{name}.bn.bias"] - mean * scale
    return (y * scale[:, None, None] + shift[:, None, None]).clamp(min=0)


def shake_norms(module):
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean):
                nn.init.normal_(tensor)
            nn.init.uniform_(part.running_var, 0.5, 2)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (14, 14)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_aspp_equals_the_formula(size, channels_last):
    head = build_head(ASPP, 6).eval()
    shake_norms(head)
    x = torch.randn(2, 6, *size)
    state = head.state_dict()
    pooled = block(x.mean((2, 3), keepdim=True), state, "image_pool.1").expand(-1, -1, *size)
    branches = [block(x, state, f"aspp_modules.{i}", rate) for i, rate in enumerate((1, 2, 3))]
    expected = block(torch.cat([pooled, *branches], 1), state, "bottleneck")
    if channels_last:
        head, x = (thing.to(memory_format=torch.channels_last) for thing in (head, x))
    torch.testing.assert_close(head(x), expected, rtol=1e-4, atol=1e-5)
    assert head.channels == 4


def test_aspp_kernels():
    shapes = {key: tuple(value.shape) for key, value in build_head(ASPP, 6).state_dict().items()}
    assert shapes["image_pool.1.conv.weight"] == (4, 6, 1, 1)
    assert shapes["aspp_modules.0.conv.weight"] == (4, 6, 1, 1)
    assert shapes["aspp_modules.1.conv.weight"] == (4, 6, 3, 3)
    assert shapes["bottleneck.conv.weight"] == (4, 16, 3, 3)
    assert not any(key.endswith("conv.bias") for key in shapes)


def test_aspp_of_the_paper_has_42_million_convolution_weights():
    with torch.device("meta"):
        head = build_head(AsppSettings(kind="aspp", name="a", title="A"), 2048)
    count = sum(m.weight.numel() for m in head.modules() if isinstance(m, nn.Conv2d))
    assert count == 2 * 2048 * 512 + 3 * 9 * 2048 * 512 + 9 * 2560 * 512


@pytest.mark.parametrize("concat_input", [False, True])
@pytest.mark.parametrize("convs", [1, 2, 3])
def test_fcn_equals_the_formula(concat_input, convs):
    settings = FCN.model_copy(update={"concat_input": concat_input, "convs": convs})
    head = build_head(settings, 6).eval()
    shake_norms(head)
    x = torch.randn(2, 6, 5, 7)
    state = head.state_dict()
    expected = x
    for i in range(convs):
        expected = block(expected, state, f"convs.{i}", dilation=2)
    if concat_input:
        expected = block(torch.cat([x, expected], 1), state, "conv_cat")
    torch.testing.assert_close(head(x), expected, rtol=1e-4, atol=1e-5)
    assert any(key.startswith("conv_cat") for key in state) == concat_input


@pytest.mark.parametrize("settings", [ASPP, FCN, FCN.model_copy(update={"concat_input": True})])
def test_every_parameter_gets_a_gradient(settings):
    head = build_head(settings, 6)
    head(torch.randn(2, 6, 5, 5)).square().sum().backward()
    assert [name for name, p in head.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("settings", [ASPP, FCN])
def test_heads_start_kaiming_normal_fan_out(settings):
    head = build_head(settings.model_copy(update={"channels": 64}), 64)
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = 64 * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.06)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()


def test_aspp_refuses_one_image_in_training_only():
    head = build_head(ASPP, 6)
    x = torch.randn(1, 6, 5, 5)
    with pytest.raises(UserError, match=r"one image per GPU.*at least 2.*larger batch"):
        head(x)
    assert head.eval()(x).shape == (1, 4, 5, 5)

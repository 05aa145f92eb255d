"""Random weights that networks start from, as the frameworks of the releases draw them."""

import math

import pytest
import tiny
import torch
from torch import nn

from cp2.methods.registry import build_encoder
from cp2.models.backbones import build_backbone
from cp2.models.segmentor_files import build_segmentor
from cp2.settings.load import load_campaign
from cp2.settings.models import FcnSettings

WIDE = tiny.resnet((64, 64, 64, 64), output_stride=32)
KAIMING, UNIFORM = 2.0, 1 / 3  # variance of a weight, in parts of one over its fan


@pytest.fixture(scope="module")
def paper():
    return load_campaign("paper")


@pytest.mark.parametrize(
    ("method", "fan_in", "linear"),
    [
        ("cp2", False, None),  # mmsegmentation
        ("moco-v2", False, UNIFORM),  # torchvision
        ("moco-v2-coco", True, KAIMING),  # OpenSelfSup, as DenseCL
        ("densecl", True, KAIMING),
        ("moco-v2-plus", False, UNIFORM),  # mmselfsup
        ("pixcon-sim", False, UNIFORM),
        ("pixcon-sr", False, UNIFORM),
    ],
)
def test_variances_of_first_weights(method, fan_in, linear, paper):
    torch.manual_seed(0)
    settings = paper.method(method)
    backbone = build_backbone(WIDE, settings.zero_init_residual, settings.conv_init)
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    wrong = 0
    for convolution in convolutions:
        outputs, inputs, *kernel = convolution.weight.shape
        fan = (inputs if fan_in else outputs) * math.prod(kernel)
        wrong += convolution.weight.std().item() != pytest.approx(math.sqrt(2 / fan), rel=0.1)
    assert wrong == 0
    if linear is None:
        return
    encoder = build_encoder(settings, backbone, None)
    for layer in (m for m in encoder.fc if isinstance(m, nn.Linear)):
        expected = math.sqrt(linear / layer.in_features)
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert (layer.bias == 0).all() == (linear == KAIMING)


@pytest.mark.parametrize("zero", [False, True])
def test_last_norms_of_a_segmentor_from_random_weights(zero):
    head = FcnSettings(kind="fcn", name="h", title="", channels=4)
    model = build_segmentor(tiny.resnet((4, 4, 4, 4)), head, 3, zero_init_residual=zero)
    zeroed = [n for n, p in model.named_parameters() if n.endswith("weight") and (p == 0).all()]
    last = [n for n, _ in model.named_parameters() if n.endswith(("bn2.weight", "bn3.weight"))]
    assert bool(zeroed) == zero
    assert set(zeroed) <= set(last)

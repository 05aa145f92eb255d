"""Small models for the tests of this room."""

import pytest
import torch

from cp2.models.backbones import ResNetBackbone, ViTBackbone, build_backbone
from cp2.settings.models import ResNetSettings, ViTSettings

TINY_RESNET = ResNetSettings(
    family="resnet",
    name="tiny-resnet",
    title="ResNet-tiny",
    arch="resnet26",
    args={"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]},
)
TINY_VIT = ViTSettings(
    family="vit",
    name="tiny-vit",
    title="ViT-tiny",
    arch="vit_small_patch16_224",
    args={"embed_dim": 32, "depth": 2, "img_size": 64},
    heads=2,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def resnet() -> ResNetBackbone:
    return build_backbone(TINY_RESNET)


@pytest.fixture
def vit() -> ViTBackbone:
    return build_backbone(TINY_VIT)

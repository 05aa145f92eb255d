"""Small models for the tests of this room."""

import tracemalloc
from collections.abc import Iterator

import pytest
import tiny
import torch

from cp2.models.backbones import ResNetBackbone, ViTBackbone, build_backbone

TINY_RESNET = tiny.resnet(name="tiny-resnet")
TINY_VIT = tiny.vit(64, depth=2)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def resnet() -> ResNetBackbone:
    return build_backbone(TINY_RESNET)


@pytest.fixture
def vit() -> ViTBackbone:
    return build_backbone(TINY_VIT)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """What the test allocates stays below 64 MB."""
    tracemalloc.start()
    yield
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 64e6, f"{most / 1e6:.0f} MB"

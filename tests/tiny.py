"""Tiny networks' settings, for tests of every room."""

from typing import Any

from cp2.settings.models import ResNetSettings, ViTSettings


def resnet(channels: tuple[int, int, int, int] = (8, 8, 16, 16), **changes: Any) -> ResNetSettings:
    """A ResNet of four blocks, one a stage."""
    fields: dict[str, Any] = {
        "family": "resnet",
        "name": "tiny",
        "title": "",
        "arch": "resnet26",
        "args": {"layers": [1, 1, 1, 1], "channels": list(channels)},
    }
    return ResNetSettings(**(fields | changes))


def vit(image: int = 32, dim: int = 32, depth: int = 1, **changes: Any) -> ViTSettings:
    """A vision transformer of so many blocks for images of so many pixels a side."""
    fields: dict[str, Any] = {
        "family": "vit",
        "name": "tiny-vit",
        "title": "",
        "arch": "vit_small_patch16_224",
        "args": {"embed_dim": dim, "depth": depth, "img_size": image},
        "heads": 2,
    }
    return ViTSettings(**(fields | changes))

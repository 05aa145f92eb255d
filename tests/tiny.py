"""Tiny networks' settings and data sets, for tests of every room."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cp2.data.index import DatasetRecord, Item, Split, write_index, write_record
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


def write_labelled(
    folder: Path,
    items: Sequence[Item],
    classes: tuple[str, ...],
    palette: tuple[tuple[int, int, int], ...],
) -> None:
    """The index and the record of a labelled data set whose files are in the folder."""
    write_index(folder, items)
    images = Counter(item.split for item in items)
    record = DatasetRecord(
        name=folder.name,
        kind="labelled",
        title="",
        digest="0" * 64,
        splits={split: Split(images=count) for split, count in images.items()},
        classes=classes,
        palette=palette,
        archives=(),
        created="2000-01-01T00:00:00+00:00",
    )
    write_record(folder, record)

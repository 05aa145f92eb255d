from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_settings import CONFIGS, class_list, read_yaml

from cp2.data.world import write_world
from cp2.settings.campaign import WorldSettings
from cp2.settings.datasets import ClassList, DatasetSettings

TINY = WorldSettings(
    short_side=48,
    voc_train=6,
    sbd_extra=3,
    voc_val=4,
    cityscapes_train=3,
    cityscapes_val=2,
    ade20k_train=3,
    ade20k_val=2,
    imagenet_classes=2,
    imagenet_per_class=3,
    voc2007_train=5,
    voc2007_test=4,
    coco_train=5,
    coco_val=3,
)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny demo world; tests must not write into it."""
    folder = tmp_path_factory.mktemp("world") / "scenes"
    write_world(folder, TINY)
    write_world(folder.parent / "voc2007", TINY, "voc2007")
    write_world(folder.parent / "coco2017", TINY, "coco2017")
    return folder


@pytest.fixture
def demo(world: Path) -> Callable[..., tuple[DatasetSettings, ClassList | None]]:
    """Settings and classes of a demo data set, as the campaign loader would hand them over."""

    def load(name: str, **changes: Any) -> tuple[DatasetSettings, ClassList | None]:
        text = read_yaml(CONFIGS / "datasets" / f"{name}.yaml", **changes)
        text = text.replace("{world}", str(world.parent))
        settings = DatasetSettings.model_validate_json(text)
        return settings, class_list(settings.classes) if settings.classes else None

    return load


@pytest.fixture
def classes() -> Callable[[str], ClassList]:
    return class_list

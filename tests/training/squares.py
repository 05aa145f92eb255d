"""A finetuning small enough to train in a second: squares whose colour is their class."""

from pathlib import Path
from typing import Any

import numpy as np
import tiny
from PIL import Image

from cp2.data.index import Item
from cp2.data.labels import IGNORE
from cp2.plan.graph import Run
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe
from cp2.settings.models import FcnSettings
from cp2.settings.optimization import PolySettings, SgdSettings
from cp2.settings.protocols.segmentation import FinetuneAugmentation, FinetuneOptimization

IMAGES, STEPS = 6, 7
CLASSES = ("dark", "red", "blue")
COLOURS = ((20, 20, 20), (200, 40, 40), (40, 40, 200))
RESNET = tiny.resnet()
VIT = tiny.vit()
HEAD = FcnSettings(kind="fcn", name="tiny", title="", channels=8, convs=1, dilation=1)
RECIPE = SegmentationFinetuneRecipe(
    backbone=RESNET,
    head=HEAD,
    pretrained_head=False,
    dataset="squares",
    classes=3,
    label_fraction=1.0,
    augmentation=FinetuneAugmentation(crop=(32, 32), resize=(32, 128)),
    optimization=FinetuneOptimization(
        optimizer=SgdSettings(kind="sgd", lr=0.05, weight_decay=5e-4),
        poly=PolySettings(min_lr=1e-4),
        batch_size=2,
        iterations=STEPS,
    ),
    amp="off",
)


def write_squares(tmp_path: Path) -> Path:
    """A results folder with a prepared data set of squares whose colour is their class."""
    folder = tmp_path / "results" / "datasets" / "squares"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    items = []
    for i in range(IMAGES):
        label = np.zeros((40, 48), dtype=np.uint8)
        top, left = rng.integers(0, 20, 2)
        label[top : top + 16, left : left + 16] = 1 + i % 2
        image = np.array(COLOURS, dtype=np.uint8)[label]
        label[:2] = IGNORE
        Image.fromarray(image).save(folder / f"{i}.png")
        Image.fromarray(label).save(folder / f"{i}-label.png")
        items.append(Item("train", f"{i}.png", f"{i}-label.png"))
    tiny.write_labelled(folder, items, CLASSES, COLOURS)
    return tmp_path / "results"


def make(
    recipe: SegmentationFinetuneRecipe = RECIPE, *origins: str, name: str = "one", seed: int = 0
) -> Run:
    needs = ("dataset/squares", *origins)
    return Run("finetune", name, "", recipe, seed, needs, {"dataset": "squares"})


def changed(
    recipe: SegmentationFinetuneRecipe = RECIPE, **optimization: Any
) -> SegmentationFinetuneRecipe:
    inner = recipe.optimization.model_copy(update=optimization)
    return recipe.model_copy(update={"optimization": inner})

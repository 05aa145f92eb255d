"""A campaign on noise, small enough to pretrain in a second."""

from pathlib import Path
from typing import Any

import numpy as np
from campaigns import with_photos
from PIL import Image

from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.load import Configuration

CAMPAIGN = """
title: tiny
scale: demo
tables: [mini_segmentation]
epochs: {{200: 2, 20: 1}}
substitute: {{labelled: scenes, unlabelled: photos, resnet18: resnet-tiny, aspp-small: aspp-tiny}}
overrides:
  datasets:
    photos: {{kind: images, title: noise, root: {root}}}
    scenes: {{kind: labelled, title: none, root: {root}, classes: camvid}}
  methods:
    moco-v2: &small {{views: {{crop_size: 32}}, batch_size: 4, queue_size: 8}}
    cp2: *small
execution: {{results: {root}/results, workers: 0, log_every: 2}}
"""


def relative(configuration: Configuration, run: Run, name: str, **changes: Any) -> Run:
    """The pretraining `run`, by another method at a small size."""
    small = {
        "views": {"crop_size": 64},
        "batch_size": 4,
        "queue_size": 20,
        "bn_group_size": None,
        "amp": "off",
        "optimizer": {"resnet": {"lr": 0.01}},
    }
    if name != "densecl":
        small["predictor_width"] = 16
    assert isinstance(run.recipe, PretrainRecipe)
    method = configuration.method(name, small | changes)
    backbone = run.recipe.backbone.model_copy(update={"output_stride": 32})
    recipe = run.recipe.model_copy(update={"method": method, "backbone": backbone})
    return Run(run.stage, f"{name}-relative", "", recipe, 0, run.needs, run.tags)


def write_noise(tmp_path: Path) -> tuple[Configuration, Plan]:
    """Twelve noise pictures, prepared, and the plan of a campaign on them.

    The pictures differ in brightness and contrast, so that batch norm can tell batches apart.
    """
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(10 * i, 30 + 18 * i, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 40)).save(tmp_path / f"{i}.png")
    file = tmp_path / "tiny.yaml"
    file.write_text(CAMPAIGN.format(root=tmp_path))
    configuration, plan = with_photos(file)
    return configuration, plan

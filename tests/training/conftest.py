"""A campaign small enough to train in a second."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cp2.data.preparers import prepare
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import DatasetRecipe
from cp2.settings.load import Configuration, load_campaign

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


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Configuration, Plan]:
    """Twelve noise pictures, prepared, and the plan of a campaign on them."""
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    file = tmp_path / "tiny.yaml"
    file.write_text(CAMPAIGN.format(root=tmp_path))
    configuration = load_campaign(str(file))
    plan = build_plan(configuration)
    photos = plan.run("dataset", "photos")
    assert isinstance(photos.recipe, DatasetRecipe)
    prepare(photos.recipe.dataset, None, photos.folder(configuration.results).path)
    return configuration, plan


@pytest.fixture
def find(tiny: tuple[Configuration, Plan]) -> Callable[[str], Run]:
    """The pretraining of a method."""

    def find_run(method: str) -> Run:
        return next(r for r in tiny[1].stage("pretrain") if r.tags["method"] == method)

    return find_run

"""A campaign with one finished pretraining, for the commands that look at weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from campaigns import with_photos
from PIL import Image

from cp2.models.backbones import build_backbone
from cp2.models.weights import save_weights
from cp2.plan.graph import Run

CAMPAIGN = """
title: tiny
scale: demo
tables: [mini_segmentation]
substitute: {{labelled: scenes, unlabelled: photos, resnet18: resnet-tiny, aspp-small: aspp-tiny}}
overrides:
  datasets:
    photos: {{kind: images, title: noise, root: {root}/photos}}
    scenes: {{kind: labelled, title: none, root: {root}, classes: camvid}}
  methods:
    moco-v2: &small {{views: {{crop_size: 32}}, batch_size: 4, queue_size: 8}}
    cp2: *small
execution: {{results: {root}/results, reports: {root}/reports}}
"""


@pytest.fixture
def campaign(tmp_path: Path) -> tuple[str, Run]:
    """A campaign file and its first pretraining, which is done."""
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(3):
        pixels = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60, 48)).save(tmp_path / f"photos/{i}.png")
    file = tmp_path / "tiny.yaml"
    file.write_text(CAMPAIGN.format(root=tmp_path))
    configuration, plan = with_photos(file)
    run = next(plan.stage("pretrain"))
    path = run.folder(configuration.results).model
    path.parent.mkdir(parents=True)
    save_weights(path, {"backbone": build_backbone(run.recipe.backbone).state_dict()}, {})
    folder = run.folder(configuration.results)
    folder.done.write_text("{}")
    folder.recipe.write_text(json.dumps({"recipe": {}, "tags": {"run_id": run.id}}))
    return str(file), run

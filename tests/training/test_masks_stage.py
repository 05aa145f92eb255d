"""The stage `masks`: what it stores, resumes and survives, and pretraining on top of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from attempts import StopAfter
from campaigns import with_photos
from PIL import Image

from cp2.data.attention_maps import RECORD, AttentionMaps, MapsRecord
from cp2.data.derived import read_record, write_record
from cp2.errors import WrongFile
from cp2.models.attention import class_attention, mass_ranks, smooth
from cp2.models.backbones import build_backbone
from cp2.models.weights import load_weights, save_weights
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import MasksRecipe
from cp2.settings.load import Configuration
from cp2.training import masks as stage
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.masks import compute_masks
from cp2.training.pretrain import pretrain

CAMPAIGN = """
title: tiny
scale: demo
tables: [mini_segmentation]
select: {{mini_segmentation: {{rows: [CP2 scratch], columns: [labelled mIoU]}}}}
epochs: {{200: 2, 20: 1}}
substitute:
  labelled: scenes
  unlabelled: photos
  resnet18: resnet-tiny
  aspp-small: aspp-tiny
  dino-vitb16: demo-moco-v2-v300
overrides:
  backbones: {{vit-tiny: {{args: {{embed_dim: 16, depth: 2, img_size: 48}}, heads: 2}}}}
  datasets:
    photos: {{kind: images, title: noise, root: {root}/images}}
    scenes: {{kind: labelled, title: none, root: {root}/images, classes: camvid}}
  methods:
    cp2: {{views: {{crop_size: 32}}, batch_size: 4, queue_size: 8, mask: {{kind: dino}}}}
execution: {{results: {root}/results, workers: 0, log_every: 2}}
"""
IMAGES = 9


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Configuration, Plan]:
    """Nine noise pictures, prepared; a vision transformer of random weights as the checkpoint."""
    monkeypatch.setattr(stage, "BATCH", 4)
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(IMAGES):
        pixels = rng.integers(0, 255, (40 + i, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    file = tmp_path / "tiny.yaml"
    file.write_text(CAMPAIGN.format(root=tmp_path))
    configuration, plan = with_photos(file)
    run = masks_of(plan)
    assert isinstance(run.recipe, MasksRecipe)
    torch.manual_seed(0)
    weights = {"backbone": build_backbone(run.recipe.backbone).state_dict()}
    folder = configuration.results / "checkpoints" / "demo-moco-v2-v300"
    save_weights(folder / "backbone.safetensors", weights, {"heads": "2"})
    return configuration, plan


def masks_of(plan: Plan) -> Run:
    (run,) = plan.stage("masks")
    return run


def compute(tiny: tuple[Configuration, Plan], deadline: Deadline | None = None) -> AttentionMaps:
    configuration, plan = tiny
    run, execution = masks_of(plan), configuration.campaign.execution
    compute_masks(run, configuration.results, execution, deadline or Deadline())
    assert run.is_done(configuration.results)
    return AttentionMaps(run.folder(configuration.results).path)


def summary(tiny: tuple[Configuration, Plan]) -> dict[str, object]:
    configuration, plan = tiny
    found: dict[str, object] = json.loads(
        masks_of(plan).folder(configuration.results).done.read_text()
    )
    return found


@torch.no_grad()
def test_maps_are_the_ranked_attention_of_the_squeezed_images(
    tiny: tuple[Configuration, Plan],
) -> None:
    configuration, plan = tiny
    maps = compute(tiny)
    recipe = masks_of(plan).recipe
    assert isinstance(recipe, MasksRecipe)
    backbone = build_backbone(recipe.backbone).eval()
    path = configuration.results / "checkpoints" / "demo-moco-v2-v300" / "backbone.safetensors"
    backbone.load_state_dict(load_weights(path)[0]["backbone"])
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    assert len(maps) == IMAGES
    for i in range(IMAGES):
        pixels = np.asarray(Image.open(configuration.results.parent / "images" / f"{i}.png"))
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        square = torch.nn.functional.interpolate(
            image[None].float(), size=(96, 96), mode="bilinear", antialias=True
        ).round()
        attention = class_attention(backbone, (square / 255 - mean) / std)
        expected = mass_ranks(smooth(attention, 2, 1.0))[0].numpy().astype(int)
        assert expected.shape == (12, 12)  # 48 pixels, twice; 2 points a patch of 16
        # Rounding of a pixel can move neighbours in the order.
        assert np.abs(expected - maps[i].astype(int)).mean() < 2


@pytest.mark.parametrize("batches", [1, 2])
def test_interrupted_equals_uninterrupted(
    tiny: tuple[Configuration, Plan], tmp_path: Path, batches: int
) -> None:
    whole = np.stack([compute(tiny)[i] for i in range(IMAGES)])
    configuration, plan = tiny
    folder = masks_of(plan).folder(configuration.results).path
    folder.rename(tmp_path / "whole")
    stops = []
    while True:
        try:
            maps = compute(tiny, StopAfter(batches))
            break
        except StoppedForResumeError as stopped:
            stops.append(str(stopped))
    assert len(stops) == {1: 2, 2: 1}[batches]
    for number, text in enumerate(stops, start=1):
        assert f"saved after {4 * batches * number} of 9 images because the test says so" in text
    assert np.array_equal(np.stack([maps[i] for i in range(IMAGES)]), whole)
    assert list((folder / "state").iterdir()) == []


def test_an_unreadable_image_is_named_counted_and_gets_an_even_map(
    tiny: tuple[Configuration, Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = compute(tiny)
    others = [whole[i].copy() for i in range(IMAGES)]
    configuration, plan = tiny
    (configuration.results.parent / "images" / "5.png").write_bytes(b"no image")
    (masks_of(plan).folder(configuration.results).path / "done.json").unlink()
    maps = compute(tiny)
    assert (maps[5] == 255).all()
    assert all(np.array_equal(maps[i], others[i]) for i in range(IMAGES) if i != 5)
    assert summary(tiny)["unreadable"] == 1
    assert "5.png: is not a readable image" in capsys.readouterr().out


def test_a_folder_that_is_gone_stops_the_stage(tiny: tuple[Configuration, Plan]) -> None:
    configuration, _ = tiny
    images = configuration.results.parent / "images"
    images.rename(images.with_name("elsewhere"))
    with pytest.raises(WrongFile, match=r"is not there.*\nSo were all 4 images of the batch"):
        compute(tiny)


def test_pretraining_cuts_its_masks_out_of_the_maps(tiny: tuple[Configuration, Plan]) -> None:
    configuration, plan = tiny
    (run,) = plan.stage("pretrain")
    execution, results = configuration.campaign.execution, configuration.results
    with pytest.raises(WrongFile, match=r"maps\.json: is not there; run: cp2 masks photos-demo"):
        pretrain(run, results, execution, Deadline())
    compute(tiny)
    pretrain(run, results, execution, Deadline())
    assert run.is_done(results)


def test_pretraining_refuses_the_maps_of_another_version(
    tiny: tuple[Configuration, Plan],
) -> None:
    configuration, plan = tiny
    compute(tiny)
    (run,) = plan.stage("pretrain")
    folder = masks_of(plan).folder(configuration.results).path
    record = read_record(folder / RECORD, MapsRecord, "masks")
    write_record(folder / RECORD, record.model_copy(update={"digest": "0" * 64}))
    with pytest.raises(WrongFile, match=r"made from data set photos \(digest 00000000, 9 images"):
        pretrain(run, configuration.results, configuration.campaign.execution, Deadline())

"""Disk space against files that are really written."""

import pytest
from campaigns import CONFIGS
from costing import configuration

from cp2.costs.disk import SAVES, disk_space
from cp2.costs.networks import count_finetuning, count_pretraining
from cp2.models.backbones import build_backbone
from cp2.models.heads import build_head
from cp2.plan.build import build_plan
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe as FinetuneRecipe
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.load import load_campaign


def test_a_finetuned_models_file_and_its_state(tmp_path):
    """ResNet-18 with a small head, written as the stages write them."""
    from cp2.models.encoders import Segmentor
    from cp2.models.weights import save_weights

    plan = build_plan(configuration(tmp_path))
    run = next(plan.stage("finetune"))
    recipe = run.recipe
    assert isinstance(recipe, FinetuneRecipe)
    backbone = build_backbone(recipe.backbone)
    head = build_head(recipe.head, backbone.channels)
    model = Segmentor(backbone, head, recipe.classes, 0.1)
    parts = {name: child.state_dict() for name, child in model.named_children()}
    save_weights(tmp_path / "model.safetensors", {k: v for k, v in parts.items() if v}, {})
    written = (tmp_path / "model.safetensors").stat().st_size
    counts = count_finetuning(recipe)
    assert counts.weights == pytest.approx(written, rel=0.01)
    assert counts.state == pytest.approx(2 * counts.weights, rel=0.01)  # and SGD's momentum


def test_a_pretrainings_file_holds_the_queue_and_its_state_both_encoders(tmp_path):
    plan = build_plan(configuration(tmp_path))
    run = next(run for run in plan.stage("pretrain") if run.tags["method"] == "cp2")
    recipe = run.recipe
    assert isinstance(recipe, PretrainRecipe)
    queue = 4 * recipe.method.queue_size * recipe.method.dim
    counts = count_pretraining(recipe)
    weights = counts.weights - queue
    assert counts.state == pytest.approx(3 * weights + queue, rel=0.01)  # query, key, momentum
    largest = disk_space(plan).states / SAVES
    assert largest >= counts.state


def test_archives_shared_by_two_data_sets_count_once():
    def total(*tables: str) -> float:
        settings = load_campaign("paper", [f"campaign.tables=[{', '.join(tables)}]"], CONFIGS)
        return disk_space(build_plan(settings)).archives

    assert total("cp2_deeplabv3", "cp2_fcn") == total("cp2_deeplabv3")
    assert total("cp2_deeplabv3") == pytest.approx((138 + 11 + 0.241 + 0.9 + 2 + 1.4) * 1e9)


def test_what_has_no_published_size_is_named(tmp_path):
    change = "campaign.substitute={labelled: camvid, unlabelled: voc2012-train}"
    disk = disk_space(build_plan(configuration(tmp_path, change)))
    assert any("SegNet" in name for name in disk.unknown)
    assert disk.archives == 2e9

"""FLOP from settings against FLOP counted on the models themselves; the shipped rates."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from costing import CONFIGS
from torch.utils.flop_counter import FlopCounterMode

from cp2.models.backbones import build_backbone
from cp2.models.segmentor_files import build_segmentor
from cp2.plan.build import build_plan
from cp2.plan.costs.arithmetic import (
    backbone_gflop,
    evaluation_gflop,
    finetuning_gflop,
    pretraining_gflop,
    seen_size,
)
from cp2.plan.costs.disk import model_bytes, state_bytes
from cp2.plan.costs.table import SHIPPED
from cp2.plan.protocols.segmentation import SegmentationEvaluateRecipe, SegmentationFinetuneRecipe
from cp2.plan.recipes import PretrainRecipe
from cp2.protocols.segmentation.auxiliary import DeeplySupervised
from cp2.settings.load import load_campaign
from cp2.settings.protocols.segmentation import InferenceSettings
from cp2.settings.throughput import ThroughputTable
from cp2.settings.yaml_files import read_mapping
from cp2.training.pretrain import build

SETTINGS = load_campaign("paper", (), CONFIGS)
CAMPAIGNS = (
    "paper",
    "paper_densecl",
    "paper_densecl_ablations",
    "paper_pixcon",
    "paper_pixcon_ablations",
    "mini",
)


def counted(model, *sizes):
    """GFLOP of forward passes of one image of each size, and what the last one returned."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        for size in sizes:
            output = model(torch.empty(1, 3, *size))
    return counter.get_total_flops() / 1e9, output


WHAT_COUNTS = (
    "kind",
    "grid",
    "symmetric",
    "predictor",
    "predictor_width",
    "projector_norm",
    "projection_hidden_layers",
    "dim",
    "queue_size",
)


@cache
def recipes(kind):
    """One run of each kind of model that the campaigns make, with its plan."""
    found = {}
    for campaign in CAMPAIGNS:
        plan = build_plan(load_campaign(campaign, (), CONFIGS))
        for run in plan.runs.values():
            if isinstance(run.recipe, kind):
                found.setdefault(_model(plan, run), (plan, run))
    return list(found.values())


def _model(plan, run):
    recipe = run.recipe
    if isinstance(recipe, SegmentationEvaluateRecipe):
        trained = plan.runs[f"finetune/{run.need('finetune')}"]
        return (recipe.resize, recipe.inference.model_dump_json(), _model(plan, trained))
    model = [
        recipe.backbone.name,
        getattr(recipe.backbone, "output_stride", None),
        str(recipe.head),
    ]
    if isinstance(recipe, PretrainRecipe):
        method = recipe.method
        counts = [getattr(method, name, None) for name in WHAT_COUNTS]
        return (*model, method.views.crop_size, *counts)
    return (*model, recipe.augmentation.crop, recipe.classes, str(recipe.auxiliary))


@pytest.mark.parametrize("name", SETTINGS.names("backbones"))
def test_backbones_take_the_flop_that_their_files_state(name):
    settings = SETTINGS.backbone(name)
    strides = (8, 16, 32) if settings.family == "resnet" else (None,)
    for stride in strides:
        if stride:
            settings = settings.model_copy(update={"output_stride": stride})
        with torch.device("meta"):
            backbone = build_backbone(settings).eval()
        for size, tolerance in (((224, 224), 0.002), ((512, 1024), 0.02), ((513, 769), 0.04)):
            found = backbone_gflop(settings, size)
            assert found == pytest.approx(counted(backbone, size)[0], rel=tolerance)


def method_of(recipe):
    with torch.device("meta"):
        return build(recipe, Path())[0].eval()


def test_pretrainings():
    """Encoder four times, predictor three times, all of it twice in a symmetric method."""
    seen = set()
    for _, run in recipes(PretrainRecipe):
        recipe = run.recipe.model_copy(update={"start": None})
        method, side = method_of(recipe), recipe.method.views.crop_size
        encoder, features = counted(method.encoders.query, (side, side))
        predictor = 0.0
        if method.predictor is not None:
            with FlopCounterMode(display=False) as counter:
                method.predictor(features)
            predictor = counter.get_total_flops() / 1e9
        expected = (4 * encoder + 3 * predictor) * len(method.views)
        assert pretraining_gflop(recipe) == pytest.approx(expected, rel=0.01), run.id
        seen.add((recipe.method.kind, len(method.views), getattr(recipe.method, "grid", None)))
    assert {kind for kind, *_ in seen} == {"cp2", "moco-v2", "moco-v2-plus", "densecl", "pixcon"}
    assert {views for _, views, _ in seen} == {1, 2}
    assert {grid for _, _, grid in seen} == {None, 1, 3, 5}


def test_finetunings_with_their_auxiliary_heads():
    heads, strides = set(), set()
    for _, run in recipes(SegmentationFinetuneRecipe):
        recipe = run.recipe
        with torch.device("meta"):
            model = build_segmentor(recipe.backbone, recipe.head, recipe.classes)
            if recipe.auxiliary:
                model = DeeplySupervised(model, recipe.auxiliary.head)
        expected = 3 * counted(model.eval(), recipe.augmentation.crop)[0]
        assert finetuning_gflop(recipe) == pytest.approx(expected, rel=0.02), run.id
        heads.add((recipe.head.name, recipe.auxiliary and recipe.auxiliary.head.name))
        strides.add(getattr(recipe.backbone, "output_stride", None))
    assert {("fcn-mmseg", "fcn-auxiliary"), ("fcn-moco", None), ("deeplabv3", None)} <= heads
    assert strides == {8, 16, None}


def windows(size, inference):
    """Corners as mmsegmentation lays windows, counted one by one."""
    found = []
    for side, window, stride in zip(size, inference.window, inference.stride, strict=True):
        starts, at = 1, 0
        while at + window < side:
            at, starts = at + stride, starts + 1
        found.append(starts)
    return found[0] * found[1]


def test_evaluations_of_whole_images_and_in_windows():
    modes = set()
    for plan, run in recipes(SegmentationEvaluateRecipe):
        recipe = run.recipe
        trained = plan.runs[f"finetune/{run.need('finetune')}"].recipe
        with torch.device("meta"):
            model = build_segmentor(trained.backbone, trained.head, trained.classes).eval()
        inference, size = recipe.inference, seen_size(recipe.resize)
        if inference.mode == "slide":
            expected = windows(size, inference) * counted(model, inference.window)[0]
        else:
            expected = counted(model, size)[0]
        assert evaluation_gflop(recipe, trained) == pytest.approx(expected, rel=0.02), run.id
        modes.add(inference.mode)
    assert modes == {"whole", "slide"}


@pytest.mark.parametrize(
    ("size", "count"), [((769, 769), 1), ((1025, 2049), 8), ((1024, 2048), 8), ((100, 770), 2)]
)
def test_windows_are_those_of_inference(size, count):
    inference = InferenceSettings(mode="slide", window=(769, 769), stride=(513, 513))
    assert windows(size, inference) == count


@pytest.mark.parametrize(
    ("resize", "seen"),
    [
        ((512, 2048), (512, 683)),
        ((512, 1025), (512, 683)),
        ((512, 1024), (512, 1024)),
        ((1025, 2049), (1025, 2049)),
        ((512, 768), (512, 768)),
    ],
)
def test_images_are_photographs_unless_resize_itself_is_at_most_twice_as_wide(resize, seen):
    assert seen_size(resize) == seen


def test_a_backbone_that_says_nothing_has_unknown_flop():
    _, run = recipes(PretrainRecipe)[0]
    silent = run.recipe.backbone.model_copy(update={"gflop": None})
    assert pretraining_gflop(run.recipe.model_copy(update={"backbone": silent})) is None


def test_pretrainings_files_and_states():
    """Parameters and queues of the real methods; SGD keeps one number a parameter, AdamW two."""
    for _, run in recipes(PretrainRecipe):
        recipe = run.recipe.model_copy(update={"start": None})
        method = method_of(recipe)
        query = sum(p.numel() for p in method.encoders.query.parameters())
        predictor = sum(p.numel() for p in method.predictor.parameters()) if method.predictor else 0
        queues = sum(method.objective.queue(name).numel() for name in method.objective.queues)
        assert model_bytes(run) == 4 * (query + queues)
        slots = 1 if recipe.backbone.family == "resnet" else 2
        learnt = (query + predictor) * (1 + slots)
        assert state_bytes(run) == 4 * (learnt + query + queues)


def test_finetunings_states_hold_the_auxiliary_head():
    for _, run in recipes(SegmentationFinetuneRecipe):
        recipe = run.recipe
        with torch.device("meta"):
            model = build_segmentor(recipe.backbone, recipe.head, recipe.classes)
            assert model_bytes(run) == 4 * sum(p.numel() for p in model.parameters())
            if recipe.auxiliary:
                model = DeeplySupervised(model, recipe.auxiliary.head)
        slots = 1 if recipe.backbone.family == "resnet" else 2
        assert state_bytes(run) == 4 * (1 + slots) * sum(p.numel() for p in model.parameters())


def test_shipped_rates_scale_the_published_figure():
    table = ThroughputTable.model_validate_json(json.dumps(read_mapping(CONFIGS / SHIPPED)))
    moco = SETTINGS.backbone("resnet50").model_copy(update={"output_stride": 32})
    published = 1281167 * 200 / (53 * 3600 * 8)  # images a second and V100
    with torch.device("meta"):
        forward, _ = counted(build_backbone(moco).eval(), (224, 224))
    for rate in table.flop_rates:
        figures = [float(figure) for figure in re.findall(r"[\d.]+", rate.source)]
        assert figures[:2] == pytest.approx([published, 4 * forward], rel=0.005)
        factor = figures[2] / figures[3] if figures[2:] else 1.0
        assert rate.gflops == pytest.approx(published * 4 * forward * factor, rel=0.005)

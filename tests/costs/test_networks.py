"""GFLOP and bytes of the built networks against published figures and sums by hand."""

import json
import math
import re

import pytest
import torch
from campaigns import CONFIGS
from torch import nn
from torchvision import models

from cp2.costs.disk import disk_space
from cp2.costs.method_step import step_gflop
from cp2.costs.networks import (
    backbone_bytes,
    backbone_gflop,
    count_finetuning,
    count_pretraining,
    segmentor_gflop,
)
from cp2.costs.table import SHIPPED
from cp2.costs.work import evaluation_gflop, seen_size
from cp2.methods.step import Method
from cp2.plan.build import build_plan
from cp2.settings.load import load_campaign
from cp2.settings.protocols.segmentation import InferenceSettings
from cp2.settings.throughput import ThroughputTable
from cp2.settings.yaml_files import read_mapping

SETTINGS = load_campaign("paper", (), CONFIGS)
RESNET = SETTINGS.backbone("resnet50")
WIDTH = 2048  # of ResNet-50's last map
CROP = (512, 512)


def at_stride(stride):
    return RESNET.model_copy(update={"output_stride": stride})


def conv(before, after, kernel, positions):
    """GFLOP; a multiply-add is two."""
    return 2e-9 * before * after * kernel * positions


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet18", models.ResNet18_Weights.IMAGENET1K_V1),
        ("resnet50", models.ResNet50_Weights.IMAGENET1K_V1),
        ("vit-b16", models.ViT_B_16_Weights.IMAGENET1K_V1),
    ],
)
def test_backbones_beside_torchvisions_published_figures(name, published):
    """Theirs are multiply-adds of 224 x 224, and parameters, with a classifier of 1,000 classes."""
    settings = SETTINGS.backbone(name)
    if settings.family == "resnet":
        settings = settings.model_copy(update={"output_stride": 32})
    width = {"resnet18": 512, "resnet50": WIDTH, "vit-b16": 768}[name]
    expected = 2 * published.meta["_ops"] - conv(width, 1000, 1, 1)
    assert backbone_gflop(settings, (224, 224)) == pytest.approx(expected, rel=0.005)
    parameters = published.meta["num_params"] - 1001 * width
    assert backbone_bytes(settings) == pytest.approx(4 * parameters, rel=0.005)


def test_a_resnet_at_a_finer_stride_costs_its_last_stage_at_more_positions():
    """Its last stage: 3 blocks of 1x1, 3x3, 1x1 and a shortcut, four times as often."""

    def last(positions, before_stride):
        total = conv(1024, 512, 1, before_stride) + conv(1024, WIDTH, 1, positions)
        total += 2 * conv(WIDTH, 512, 1, positions)
        return total + 3 * (conv(512, 512, 9, positions) + conv(512, WIDTH, 1, positions))

    more = last(196, 196) - last(49, 196)
    found = [backbone_gflop(at_stride(stride), (224, 224)) for stride in (32, 16)]
    assert found[1] - found[0] == pytest.approx(more, rel=0.001)


@pytest.mark.parametrize("padding", ["same", "same-pool"])
def test_how_the_border_is_padded_costs_the_same(padding):
    padded = RESNET.model_copy(update={"padding": padding, "input": "zero-one"})
    assert backbone_gflop(padded, CROP) == backbone_gflop(RESNET, CROP)
    assert backbone_bytes(padded) == backbone_bytes(RESNET)


def head_gflop(name, classes, positions):
    """Of the heads by their description, with the classifier."""
    if name == "deeplabv3":  # four branches, one of 1x1; image pooling; 3x3 over all five
        branches = conv(WIDTH, 512, 1 + 3 * 9, positions) + conv(WIDTH, 512, 1, 1)
        return branches + conv(5 * 512, 512, 9, positions) + conv(512, classes, 1, positions)
    if name == "fcn":
        convs = conv(WIDTH, 256, 9, positions) + conv(256, 256, 9, positions)
        return convs + conv(256, classes, 1, positions)
    assert name == "fcn-mmseg"  # the third sees the backbone's map, too
    convs = conv(WIDTH, 512, 9, positions) + conv(512, 512, 9, positions)
    return convs + conv(WIDTH + 512, 512, 9, positions) + conv(512, classes, 1, positions)


@pytest.mark.parametrize("name", ["deeplabv3", "fcn", "fcn-mmseg"])
def test_heads_by_hand(name):
    for size, classes in ((CROP, 21), ((512, 683), 150)):
        positions = math.ceil(size[0] / 16) * math.ceil(size[1] / 16)
        expected = backbone_gflop(RESNET, size) + head_gflop(name, classes, positions)
        found = segmentor_gflop(RESNET, SETTINGS.head(name), classes, size)
        assert found == pytest.approx(expected, rel=1e-6)


def runs(campaign, stage, *assignments):
    plan = build_plan(load_campaign(campaign, assignments, CONFIGS))
    return plan, list(plan.stage(stage))


def pretraining(campaign, method, *assignments):
    _, found = runs(campaign, "pretrain", *assignments)
    return next(r.recipe for r in found if r.recipe.method.name == method)


def mlp(before, hidden, after, positions):
    return conv(before, hidden, 1, positions) + conv(hidden, after, 1, positions)


@pytest.mark.parametrize(
    ("campaign", "method"),
    [
        ("paper", "cp2"),
        ("paper_densecl", "moco-v2-coco"),
        ("paper_densecl", "densecl"),
        ("paper_pixcon", "moco-v2-plus"),
        ("paper_pixcon", "pixcon-sr"),
    ],
)
def test_pretrainings_by_hand(campaign, method):
    """Query forward and backward (2), key forward; the predictor is the query's only."""
    recipe = pretraining(campaign, method)
    encoder, predictor = backbone_gflop(recipe.backbone, (224, 224)), 0.0
    if method == "cp2":
        assert recipe.head.name == "deeplabv3"
        encoder += head_gflop("deeplabv3", 0, 196) + mlp(512, 512, 128, 196)
    else:
        encoder += mlp(WIDTH, WIDTH, 128, 1)  # of the whole image
    if method in ("densecl", "pixcon-sr"):
        encoder += mlp(WIDTH, WIDTH, 128, 49)  # of the 7 x 7 positions
    symmetric = method in ("moco-v2-plus", "pixcon-sr")
    if symmetric:
        width = recipe.method.predictor_width
        predictor = mlp(128, width, 128, 50 if method == "pixcon-sr" else 1)
    expected = (4 * encoder + 3 * predictor) * (2 if symmetric else 1)
    assert count_pretraining(recipe).gflop == pytest.approx(expected, rel=0.001)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("campaign", "method", "queues"),
    [("paper", "cp2", 1), ("paper_densecl", "densecl", 2), ("paper_pixcon", "pixcon-sr", 2)],
)
def test_weights_and_states_of_pretrainings_by_hand(campaign, method, queues):
    """Batch norm's statistics aside, which are a few thousandths."""
    recipe = pretraining(campaign, method)
    network = backbone_bytes(recipe.backbone) / 4
    if method == "cp2":
        head = WIDTH * 512 * (2 + 3 * 9) + 5 * 512 * 512 * 9  # pooling, branches, fusion
        network += head + 512 * 512 + 512 * 128
    else:
        network += 2 * (WIDTH * WIDTH + WIDTH * 128)
    predictor = 2 * 2 * 128 * recipe.method.predictor_width if method == "pixcon-sr" else 0
    queue = queues * 128 * 65536
    counts = count_pretraining(recipe)
    assert counts.weights == pytest.approx(4 * (network + queue), rel=0.005)
    learnt = network + predictor  # and SGD's momentum; the key encoder has none
    assert counts.state == pytest.approx(4 * (2 * learnt + network + queue), rel=0.005)


def test_adamw_keeps_two_numbers_of_each_parameter():
    _, found = runs("paper", "finetune")
    recipe = next(r.recipe for r in found if r.recipe.backbone.family == "vit")
    assert recipe.optimization.optimizer.kind == "adamw"
    counts = count_finetuning(recipe)
    assert counts.state == pytest.approx(3 * counts.weights, rel=0.005)


def test_a_finetuning_with_an_auxiliary_head_by_hand():
    """Forward and backward; the second head sees 1,024 channels and is not kept."""
    _, found = runs("paper_densecl", "finetune")
    recipe = next(r.recipe for r in found if r.recipe.augmentation.crop == CROP)
    assert (recipe.head.name, recipe.auxiliary.head.name) == ("fcn-mmseg", "fcn-auxiliary")
    assert recipe.backbone.output_stride == 8
    second = conv(1024, 256, 9, 64 * 64) + conv(256, recipe.classes, 1, 64 * 64)
    forward = backbone_gflop(recipe.backbone, CROP)
    forward += head_gflop("fcn-mmseg", recipe.classes, 64 * 64) + second
    counts = count_finetuning(recipe)
    assert counts.gflop == pytest.approx(3 * forward, rel=1e-4)
    auxiliary = 4 * (1024 * 256 * 9 + 256 * recipe.classes)
    assert counts.state == pytest.approx(2 * (counts.weights + auxiliary), rel=0.005)


def windows(size, inference):
    """Corners as mmsegmentation lays windows, counted one by one."""
    found = []
    for side, window, stride in zip(size, inference.window, inference.stride, strict=True):
        starts, at = 1, 0
        while at + window < side:
            at, starts = at + stride, starts + 1
        found.append(starts)
    return found[0] * found[1]


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_evaluations_of_whole_images_and_in_windows(mode):
    plan, found = runs("paper_densecl", "evaluate")
    run = next(r for r in found if r.recipe.inference.mode == mode)
    model = plan.runs[f"finetune/{run.need('finetune')}"].recipe
    size, count = seen_size(run.recipe.resize), 1
    if mode == "slide":
        count, size = windows(size, run.recipe.inference), run.recipe.inference.window
        assert count == 8
    one = segmentor_gflop(model.backbone, model.head, model.classes, size)
    assert evaluation_gflop(run.recipe, model) == count * one


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


class TeacherAndProbe(Method):
    """No queue: a student that sees both views, a teacher that sees one, a predictor of half the
    rows; and a loss with a matrix product of its own."""

    def __init__(self, settings):
        super().__init__(settings)
        self.student, self.teacher = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1)
        self.teacher.requires_grad_(False)
        self.predictor = nn.Sequential(nn.Linear(5, 7), nn.ReLU())

    def before_step(self, batch, step):
        return self.teacher(batch.images_k).mean((2, 3))

    def forward(self, batch, prepared, step):
        views = [self.student(v).mean((2, 3)) for v in (batch.images_q, batch.images_k)]
        half = self.predictor(views[0][: len(prepared) // 2])
        return {"loss": (views[1] @ prepared.T).mean() + half.mean()}


def test_a_method_without_key_encoder_and_queue_is_counted_by_what_it_runs():
    settings = pretraining("paper", "cp2").method
    with torch.device("meta"):
        found = step_gflop(TeacherAndProbe(settings).eval())
    side = settings.views.crop_size
    one = conv(3, 5, 1, side * side)
    assert found == pytest.approx((3 * 2 + 1) * one + 3 * conv(5, 7, 1, 0.5))


def test_options_that_shape_no_network_are_counted_once(monkeypatch):
    from cp2.costs import networks

    built = []
    real = networks.build_networks
    monkeypatch.setattr(networks, "build_networks", lambda recipe: built.append(1) or real(recipe))
    monkeypatch.setattr(networks, "_KNOWN", {})
    disk_space(build_plan(load_campaign("paper", (), CONFIGS)))
    assert len(built) == 2  # with DeepLabv3's and with FCN's head


def test_keys_of_earlier_backbone_files_are_passed_over(tmp_path):
    tree = RESNET.model_dump_json()
    old = {"channels": 2048, "parameters": 23508032, "gflop": {"16": 12.4}}
    assert type(RESNET).model_validate_json(json.dumps({**json.loads(tree), **old})) == RESNET
    told = [f"backbones.resnet50.{key}={json.dumps(value)}" for key, value in old.items()]
    assert load_campaign("paper", told, CONFIGS).backbone("resnet50") == RESNET


def test_shipped_rates_scale_the_published_figure():
    table = ThroughputTable.model_validate_json(json.dumps(read_mapping(CONFIGS / SHIPPED)))
    published = 1281167 * 200 / (53 * 3600 * 8)  # images a second and V100
    forward = backbone_gflop(at_stride(32), (224, 224))
    for rate in table.flop_rates:
        figures = [float(figure) for figure in re.findall(r"[\d.]+", rate.source)]
        assert figures[:2] == pytest.approx([published, 4 * forward], rel=0.005)
        factor = figures[2] / figures[3] if figures[2:] else 1.0
        assert rate.gflops == pytest.approx(published * 4 * forward * factor, rel=0.005)

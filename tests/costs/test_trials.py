"""Backbones of timm's that cannot work are refused by `cp2 plan` and `cp2 doctor`."""

import pytest
from campaigns import CONFIGS
from typer.testing import CliRunner

from cp2.cli.main import app
from cp2.costs import trials
from cp2.costs.networks import backbone_gflop
from cp2.costs.trials import WHOLE, refusal, unfit_backbones
from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.settings.load import load_campaign
from cp2.settings.models import TimmSettings

REGISTERS = {"dynamic_img_size": True, "img_size": 56, "embed_dim": 32, "depth": 2, "num_heads": 2}
CAMPAIGN = """
title: Test
scale: mini
tables: [mini_segmentation]
substitute: {labelled: voc2012-train, unlabelled: voc2012-train, resnet18: efficientnet-lite0}
select: {mini_segmentation: {rows: [random init, MoCo v2]}}
"""


def backbone(arch, stride, **args):
    fields = {"family": "timm", "name": "mine", "title": "", "arch": arch, "args": args}
    return TimmSettings(**fields, output_stride=stride)


@pytest.fixture
def campaign(tmp_path):
    file = tmp_path / "mine.yaml"
    text = f"{CAMPAIGN}execution: {{results: {tmp_path}/results, reports: {tmp_path}/reports}}\n"
    file.write_text(text, encoding="utf-8")
    return str(file)


def changed(arch, stride):
    mine = "backbones.efficientnet-lite0"
    return [f"{mine}.arch={arch}", f"{mine}.output_stride={stride}"]


@pytest.mark.parametrize(
    ("arch", "stride", "size", "expected"),
    [
        (
            "tnt_s_patch16_224",
            16,
            (192, 192),
            "backbone mine: timm's tnt_s_patch16_224 cannot take images of 192 x 192 pixels (crop):"
            " Input image size (192*192) doesn't match model (224*224); write 224 x 224 there, "
            "which it takes, or write args: {img_size: 192}, or take another arch",
        ),
        (
            "maxvit_rmlp_pico_rw_256",
            32,
            (192, 256),
            "(crop): height (12) must be divisible by window (8); write 256 x 256 there, which it",
        ),
        ("inception_v3", 32, (192, 192), "with output_stride 32 one of 6 x 6 is due; take another"),
        ("inception_v3", 32, (64, 64), "input size; take another arch"),
        ("vgg11", 16, (64, 64), "backbone mine: timm's vgg11 refuses output_stride 16: "),
        ("mixer_s32_224", 32, (224, 224), "mine: mixer_s32_224 takes images of one size only; its"),
    ],
)
def test_what_cannot_work_is_told_with_its_remedy(arch, stride, size, expected):
    assert expected in refusal(backbone(arch, stride), size, "crop")


def test_a_network_of_one_size_can_be_evaluated_in_windows():
    found = refusal(backbone("tnt_s_patch16_224", 16), (192, 256), WHOLE)
    assert "write inference: {mode: slide, window: [224, 224], stride: ...}, or take" in found


@pytest.mark.parametrize(
    ("arch", "stride", "args", "size"),
    [
        ("tnt_s_patch16_224", 16, {}, (224, 224)),
        ("tf_efficientnet_lite0", 16, {}, (33, 51)),
        ("vit_small_patch14_reg4_dinov2", 14, REGISTERS, (192, 257)),
    ],
)
def test_what_works_is_not_refused(arch, stride, args, size):
    assert refusal(backbone(arch, stride, **args), size, "crop") is None


def test_a_campaign_of_a_backbone_that_works_and_each_size_is_tried_once(campaign, monkeypatch):
    tried = []
    real = trials.backbone_map
    monkeypatch.setattr(
        trials,
        "backbone_map",
        lambda net, size: tried.append((net.stride, size)) or real(net, size),
    )
    settings = load_campaign(campaign, (), CONFIGS)
    plan = build_plan(settings)
    assert unfit_backbones(plan, settings.results) == []
    assert sorted(tried) == [
        (16, (192, 192)), (16, (192, 256)), (16, (192, 257)), (16, (224, 224))
    ]  # fmt: skip


def test_plan_refuses_and_says_which_runs(campaign):
    sets = [word for text in changed("tnt_s_patch16_224", 16) for word in ("--set", text)]
    done = CliRunner().invoke(app, ["plan", "--campaign", campaign, *sets])
    assert isinstance(done.exception, UserError)
    first, *more = str(done.exception).splitlines()
    assert first.startswith("finetune/voc2012-train-aspp-small-random-efficientnet-lite0-s0-")
    assert " and 3 more: backbone efficientnet-lite0: timm's tnt_s_patch16_224 cannot take" in first
    assert "(augmentation.crop)" in first
    assert any("evaluated as a whole" in line for line in more)
    costs = CliRunner().invoke(app, ["plan", "--cost", "--campaign", campaign, *sets])
    assert str(costs.exception) == str(done.exception)


def test_the_doctor_tells_it_as_a_problem(campaign):
    sets = [word for text in changed("vgg11", 16) for word in ("--set", text)]
    done = CliRunner().invoke(app, ["doctor", "--campaign", campaign, *sets])
    assert done.exit_code == 1
    (line,) = (line for line in done.output.splitlines() if "vgg11" in line)
    assert line.startswith("PROBLEM finetune/")
    assert "backbone efficientnet-lite0: timm's vgg11 refuses output_stride 16" in line


def test_costs_name_the_backbone():
    with pytest.raises(UserError, match="backbone mine: timm's vgg11 refuses output_stride 16"):
        backbone_gflop(backbone("vgg11", 16), (64, 64))

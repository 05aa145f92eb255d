"""BYOL, SimCLR, PixPro, SlotCon: published numbers, and what wrong options are told."""

from pathlib import Path

import pytest

from cp2.errors import UserError
from cp2.settings.load import load_campaign

CONFIGS = Path(__file__).parents[2] / "configs"


def method(name, *assignments, changes=None):
    return load_campaign("paper", assignments, CONFIGS).method(name, changes)


def byol_views(views):
    assert (views.crop_scale, views.brightness, views.saturation) == ((0.08, 1.0), 0.4, 0.2)
    assert [(v.blur_probability, v.solarize_probability) for v in map(views.of, (0, 1))] == [
        (1.0, 0.0),
        (0.1, 0.2),
    ]


def test_byol_of_pixcon():
    byol = method("byol")
    sgd = byol.optimizer["resnet"]
    assert (sgd.kind, sgd.lr, sgd.weight_decay) == ("sgd", 0.4, 1e-4)
    assert (byol.batch_size, byol.momentum, byol.momentum_end) == (512, 0.99, 1.0)
    assert (byol.projector_width, byol.predictor_width, byol.dim) == (4096, 4096, 256)
    assert (byol.schedule.warmup_epochs, byol.schedule.warmup_ratio) == (4, 1e-4)
    assert (byol.symmetric, byol.view_losses, byol.views.min_overlap) == (True, "sum", 0)
    byol_views(byol.views)


def test_byol_of_densecl():
    byol = method("byol-imagenet")
    lars = byol.optimizer["resnet"]
    assert (lars.form, lars.lr, lars.weight_decay) == ("openselfsup", 3.2, 1.5e-6)
    assert (byol.batch_size, byol.momentum, byol.schedule.warmup_epochs) == (4096, 0.996, 10)
    assert (byol.head_init, byol.conv_init) == ("kaiming", "fan-in")
    assert byol.views.interpolation == "bicubic"
    byol_views(byol.views)


def test_simclr():
    simclr = method("simclr")
    lars, views = simclr.optimizer["resnet"], simclr.views
    assert (lars.form, lars.lr, lars.weight_decay) == ("openselfsup", 0.3, 1e-6)
    assert (simclr.batch_size, simclr.temperature, simclr.dim) == (256, 0.1, 128)
    assert (views.brightness, views.contrast, views.saturation, views.hue) == (0.8, 0.8, 0.8, 0.2)
    assert (views.blur_probability, views.second) == (0.5, None)


@pytest.mark.parametrize("name", ["pixpro", "slotcon"])
def test_pixpro_and_slotcon(name):
    chosen = method(name)
    lars, schedule = chosen.optimizer["resnet"], chosen.schedule
    assert (lars.form, lars.lr, lars.weight_decay) == ("released", 2.0, 1e-5)
    assert (chosen.batch_size, chosen.momentum, chosen.momentum_end) == (512, 0.99, 1.0)
    assert (schedule.by, schedule.warmup_epochs, schedule.warmup_ratio) == ("step", 5, 0.01)
    assert (schedule.after_warmup, schedule.min_lr) == (True, 1e-6)
    assert (chosen.dim, chosen.projector_width, chosen.zero_init_residual) == (256, 4096, True)
    byol_views(chosen.views)


def test_slotcon():
    chosen = method("slotcon")
    views = chosen.views
    assert (views.min_overlap, views.without_overlap) == (0.01, "any")
    assert (views.interpolation, method("pixpro").views.interpolation) == ("bicubic", "bilinear")
    assert (chosen.prototypes, chosen.matching, chosen.centre_momentum) == (256, "coord", 0.9)
    assert chosen.student_temperature == 0.1
    assert (chosen.teacher_temperature, chosen.slot_temperature) == (0.07, 0.2)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        (
            "byol.queue_size=64",
            ["queue_size has no effect on a method of kind byol", "leave it out"],
        ),
        ("byol.bn_group_size=128", ["whole batch of 512, but bn_group_size is 128"]),
        ("pixpro.predictor=true", ["predictor has no effect on a method of kind pixpro"]),
        ("slotcon.queue_size=64", ["queue_size has no effect", "with these options"]),
        ("slotcon.teacher_temperature=0", ["teacher_temperature = 0", "greater than 0"]),
        ("slotcon.prototypes=0", ["prototypes = 0", "greater than or equal to 1"]),
        ("slotcon.reweighting=true", ["matching is coord", "write matching: both or sim"]),
        ("simclr.temperature=0", ["temperature = 0", "greater than 0"]),
        ("simclr.batch_size=1", ["batch_size = 1", "greater than or equal to 2"]),
        ("simclr.bn_group_size=32", ["normalised together", "bn_group_size: null"]),
        ("pixpro.instance_weight=2", ["instance_weight has no effect", "with these options"]),
        ("slotcon.views.min_overlap=0", ["without_overlap: any has no effect", "min_overlap is 0"]),
        ("slotcon.schedule.min_lr=3", ["min_lr 3 is more than lr 2 of optimizer.resnet"]),
        ("simclr.momentum=0.9", ["momentum", "unknown key"]),
        ("simclr.optimizer.resnet.form=google", ["form = 'google'", "openselfsup"]),
        ("simclr.optimizer.resnet.trust=0", ["trust = 0", "greater than 0"]),
        ("simclr.views.interpolation=nearest", ["interpolation", "bicubic"]),
    ],
)
def test_wrong_options_name_key_and_what_is_allowed(assignment, words):
    with pytest.raises(UserError) as error:
        method("cp2", f"methods.{assignment}")
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_branch_that_is_there_has_its_weight():
    assert method("pixpro", changes={"instance_branch": True, "instance_weight": 2.0})


def test_more_prototypes_than_positions():
    few = {"prototypes": 300, "batch_size": 6, "views": {"crop_size": 224}}
    reason = method("slotcon", changes=few).misfit(32, 1)
    assert "300 prototypes are more than the 294 positions of a batch (6 views of 7 x 7" in reason
    assert method("slotcon", changes=few | {"prototypes": 294}).misfit(32, 1) is None
    assert "4 micro-batches" in method("slotcon").misfit(32, 4)

"""DenseCL, PixCon and MoCo v2+: published numbers, and what wrong options are told."""

from pathlib import Path

import pytest

from cp2.errors import UserError
from cp2.settings.load import load_campaign

CONFIGS = Path(__file__).parents[2] / "configs"


def method(name, *assignments, changes=None):
    return load_campaign("paper", assignments, CONFIGS).method(name, changes)


def test_densecl():
    densecl = method("densecl")
    assert densecl.optimizer["resnet"].lr == 0.3
    assert (densecl.batch_size, densecl.bn_group_size, densecl.output_stride) == (256, 32, 32)
    assert (densecl.momentum, densecl.momentum_end, densecl.temperature) == (0.999, None, 0.2)
    assert (densecl.loss_lambda, densecl.lambda_warmup_steps, densecl.grid) == (0.5, 0, None)
    assert densecl.matching == "max-sim-backbone"
    assert densecl.views == method("moco-v2").views
    assert not densecl.symmetric


@pytest.mark.parametrize("name", ["moco-v2-plus", "pixcon-sim", "pixcon-coord", "pixcon-sr"])
def test_the_footing_of_pixcon(name):
    chosen = method(name)
    sgd, views = chosen.optimizer["resnet"], chosen.views
    assert (sgd.lr, sgd.momentum, sgd.weight_decay) == (0.4, 0.9, 1e-4)
    assert (chosen.batch_size, chosen.bn_group_size, chosen.output_stride) == (512, None, 32)
    assert (chosen.momentum, chosen.momentum_end) == (0.99, 1.0)
    assert (chosen.symmetric, chosen.predictor, chosen.projector_norm) == (True, True, True)
    assert (chosen.predictor_width, chosen.queue_view) == (2048, "random")
    assert (chosen.schedule.warmup_epochs, chosen.amp) == (4, "fp16")
    assert (views.crop_scale, views.min_overlap) == ((0.08, 1.0), 0.01)
    assert (views.brightness, views.contrast, views.saturation, views.hue) == (0.4, 0.4, 0.2, 0.1)
    assert [(v.blur_probability, v.solarize_probability) for v in map(views.of, (0, 1))] == [
        (1.0, 0.0),
        (0.1, 0.2),
    ]


def test_pixcon_sr():
    sr = method("pixcon-sr")
    assert (sr.variant, sr.sr_power, sr.overlap_rule, sr.loss_lambda) == ("sr", 2.0, True, 0.5)


def test_steps_from_densecl_to_sim_are_options():
    sim = method("pixcon-sim")
    steps = {
        "conv_init": "fan-out",
        "head_init": "pytorch",
        "bn_group_size": None,
        "key_bn": "none",
        "projector_norm": True,
        "predictor": True,
        "momentum": 0.99,
        "momentum_end": 1.0,
        "symmetric": True,
        "views": {
            "crop_scale": [0.08, 1.0],
            "saturation": 0.2,
            "blur_probability": 1.0,
            "second": {"blur_probability": 0.1, "solarize_probability": 0.2},
            "min_overlap": 0.01,
        },
    }
    reached = method("densecl", changes=steps)
    names = set(type(reached).model_fields) & set(type(sim).model_fields)
    optimization = {"batch_size", "optimizer", "schedule", "amp"}
    for name in names - optimization - {"kind", "name", "title"}:
        assert getattr(reached, name) == getattr(sim, name), name


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("densecl.loss_lambda=1.5", ["loss_lambda = 1.5", "less than or equal to 1"]),
        ("densecl.loss_lambda=-0.1", ["loss_lambda = -0.1", "greater than or equal to 0"]),
        ("densecl.grid=0", ["grid = 0", "greater than or equal to 1"]),
        ("densecl.matching=max-sim", ["did you mean 'max-sim-backbone'?", "random"]),
        ("densecl.dense_weight=0.2", ["dense_weight", "unknown key", "loss_lambda"]),
        ("densecl.mask.kind=full", ["mask", "unknown key"]),
        ("densecl.background=batch", ["background", "unknown key"]),
        ("pixcon-sr.coord_radius=1.0", ["coord_radius is read by variant coord only"]),
        ("pixcon-coord.sr_power=1.0", ["sr_power is read by variant sr only"]),
        ("pixcon-sr.momentum_end=0.9", ["momentum_end 0.9 is less than momentum 0.99"]),
        ("pixcon-sr.bn_group_size=64", ["whole batch of 512, but bn_group_size is 64", "null"]),
        ("pixcon-sr.views.min_overlap=2", ["min_overlap = 2", "less than or equal to 1"]),
    ],
)
def test_wrong_options_name_key_and_what_is_allowed(assignment, words):
    with pytest.raises(UserError) as error:
        method("cp2", f"methods.{assignment}")
    assert all(word in str(error.value) for word in words), str(error.value)

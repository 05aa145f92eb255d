"""The defaults are the papers': CP² sec. 3 and 4.1, its released code, MoCo v2's release."""

import pytest
from campaigns import CONFIGS

from cp2.settings.load import load_campaign


@pytest.fixture
def paper():
    return load_campaign("paper", (), CONFIGS)


def test_cp2_pretraining(paper):
    cp2 = paper.method("cp2")
    assert (cp2.batch_size, cp2.queue_size, cp2.dim) == (256, 65536, 128)
    assert (cp2.momentum, cp2.temperature) == (0.999, 0.2)
    assert (cp2.dense_weight, cp2.dense_temperature, cp2.dense_softmax_axis) == (0.2, 1.0, "key")
    assert (cp2.mask.area, cp2.mask.aspect) == ((0.5, 0.8), (0.8, 1.25))
    assert cp2.zero_init_residual
    assert not paper.method("moco-v2").zero_init_residual


@pytest.mark.parametrize("name", ["cp2", "moco-v2"])
def test_pretraining_optimisers_and_views(name, paper):
    method = paper.method(name)
    sgd, adamw = method.optimizer["resnet"], method.optimizer["vit"]
    assert (sgd.lr, sgd.momentum, sgd.weight_decay) == (0.03, 0.9, 1e-4)
    assert (adamw.lr, adamw.betas, adamw.weight_decay) == (5e-5, (0.9, 0.999), 0.01)
    assert (method.schedule.by, method.schedule.warmup_epochs) == ("epoch", 0)
    views = method.views
    assert (views.crop_size, views.crop_scale, views.crop_ratio) == (224, (0.2, 1), (3 / 4, 4 / 3))
    assert (views.brightness, views.contrast, views.saturation, views.hue) == (0.4, 0.4, 0.4, 0.1)
    assert (views.jitter_probability, views.gray_probability) == (0.8, 0.2)
    assert (views.blur_probability, views.blur_sigma) == (0.5, (0.1, 2.0))


@pytest.mark.parametrize(
    ("dataset", "batch", "iterations", "lr", "crop", "resize"),
    [
        ("voc2012", 16, 40_000, 0.003, (512, 512), (512, 2048)),
        ("cityscapes", 8, 60_000, 0.01, (512, 1024), (1024, 2048)),
        ("ade20k", 16, 80_000, 0.01, (512, 512), (512, 2048)),
    ],
)
def test_finetuning(dataset, batch, iterations, lr, crop, resize, paper):
    schedule = paper.protocol("cp2").datasets[dataset]
    assert (schedule.batch_size, schedule.iterations) == (batch, iterations)
    assert schedule.lr == {"resnet": lr, "vit": 5e-5}
    assert (schedule.augmentation.crop, schedule.augmentation.resize) == (crop, resize)
    assert schedule.augmentation.cat_max_ratio == 0.75
    assert schedule.inference.mode == "whole"


@pytest.mark.parametrize(
    ("dataset", "counts", "classes"),
    [
        ("voc2012", {"train": 10582, "val": 1449}, 21),
        ("cityscapes", {"train": 2975, "val": 500}, 19),
        ("ade20k", {"train": 20210, "val": 2000}, 150),
    ],
)
def test_data_sets(dataset, counts, classes, paper):
    settings = paper.dataset(dataset)
    assert settings.counts == counts
    assert len(paper.classes(settings.classes).classes) == classes


def test_images_of_imagenet(paper):
    assert paper.dataset("imagenet").counts == {"train": 1_281_167}


POLY = {"power": 0.9, "min_lr": 1e-4, "warmup_iterations": 0, "warmup_ratio": 1e-6}
SLIDE = ("slide", (769, 769), (513, 513))
WHOLE = ("whole", None, None)


@pytest.mark.parametrize(
    ("protocol", "dataset", "batch", "iterations", "lr", "decay", "crop", "resize"),
    [
        ("densecl", "voc2012", 16, 20_000, 0.01, 5e-4, (512, 512), (512, 2048)),
        ("densecl", "cityscapes", 8, 40_000, 0.01, 5e-4, (769, 769), (1025, 2049)),
        ("pixcon", "voc2012", 16, 30_000, 0.003, 1e-4, (513, 513), (513, 2049)),
        ("pixcon", "cityscapes", 16, 90_000, 0.01, 1e-4, (769, 769), (1025, 2049)),
        ("pixcon", "ade20k", 16, 80_000, 0.01, 5e-4, (512, 512), (512, 2048)),
    ],
)
def test_finetuning_of_the_relatives(
    protocol, dataset, batch, iterations, lr, decay, crop, resize, paper
):
    settings = paper.protocol(protocol)
    schedule = settings.datasets[dataset]
    assert (schedule.batch_size, schedule.iterations) == (batch, iterations)
    assert schedule.lr == {"resnet": lr}
    optimizer = settings.optimizer_of(dataset)["resnet"]
    assert optimizer.weight_decay_random_head == optimizer.weight_decay_pretrained_head == decay
    assert (schedule.augmentation.crop, schedule.augmentation.resize) == (crop, resize)
    assert schedule.augmentation.scale == (0.5, 2.0)
    moco = (protocol, dataset) in (("pixcon", "voc2012"), ("pixcon", "cityscapes"))
    assert schedule.augmentation.normalization == ("legacy" if moco else "imagenet")
    assert schedule.augmentation.cat_max_ratio == (1.0 if moco else 0.75)
    assert settings.zero_init_residual == (protocol == "densecl")
    assert settings.amp == "off"


@pytest.mark.parametrize(
    ("protocol", "dataset", "stride", "corners", "auxiliary", "photometric", "steps", "inference"),
    [
        ("densecl", "voc2012", 8, False, 0.4, 0.5, None, WHOLE),
        ("densecl", "cityscapes", 8, True, 0.4, 0.5, None, SLIDE),
        ("pixcon", "voc2012", 16, True, None, 0.0, (21_000, 27_000), WHOLE),
        ("pixcon", "cityscapes", 16, True, None, 0.0, (63_000, 81_000), SLIDE),
        ("pixcon", "ade20k", 8, False, 0.4, 0.5, None, WHOLE),
    ],
)
def test_networks_and_schedules_of_the_relatives(
    protocol, dataset, stride, corners, auxiliary, photometric, steps, inference, paper
):
    settings = paper.protocol(protocol)
    schedule = settings.datasets[dataset]
    assert (schedule.output_stride, schedule.align_corners) == (stride, corners)
    assert (schedule.auxiliary.weight if schedule.auxiliary else None) == auxiliary
    assert schedule.augmentation.photometric_probability == photometric
    optimizer = settings.optimizer_of(dataset)["resnet"]
    if steps:
        assert optimizer.step.factor == 0.1
        shares = optimizer.step.milestones
        assert tuple(round(share * schedule.iterations) for share in shares) == steps
    else:
        assert optimizer.poly.model_dump() == POLY
    found = schedule.inference
    assert (found.mode, found.window, found.stride) == inference


@pytest.mark.parametrize(
    ("name", "channels", "convs", "dilation", "concat", "dropout"),
    [
        ("fcn", 256, 2, 6, False, 0.1),
        ("fcn-mmseg", 512, 2, 1, True, 0.1),
        ("fcn-moco", 256, 2, 6, False, 0.0),
        ("fcn-auxiliary", 256, 1, 1, False, 0.1),
    ],
)
def test_fcn_heads(name, channels, convs, dilation, concat, dropout, paper):
    head = paper.head(name)
    assert (head.channels, head.convs, head.dilation) == (channels, convs, dilation)
    assert (head.concat_input, head.dropout) == (concat, dropout)


def test_images_of_coco(paper):
    assert paper.dataset("coco2017").counts == {"train": 118_287}
    assert paper.dataset("coco2017-plus").counts == {"train": 118_287 + 123_403}
    coco = paper.method("moco-v2-coco")
    assert (coco.optimizer["resnet"].lr, coco.output_stride, coco.batch_size) == (0.3, 32, 256)


def test_losses_that_are_left_out_leave_the_others_weight(paper):
    """CP² appendix: the whole loss is instance + 0.2 dense."""
    rows = {row.name: row.pretrain for row in paper.table("cp2_loss_ablation").rows}
    weights = {}
    for name, pretrain in rows.items():
        if pretrain:
            method = paper.method(pretrain.method, pretrain.settings)
            weights[name] = (method.instance_weight, method.dense_weight)
    assert weights["entire CP2"] == (1.0, 0.2)
    assert weights["instance loss only"] == weights["no copy-paste"] == (1.0, 0.0)
    assert weights["dense loss only"] == (0.0, 0.2)

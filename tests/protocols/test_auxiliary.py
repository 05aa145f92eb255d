"""The second head of training, and the stage that it sees."""

import pytest
import torch
from torch.nn import functional as F

from cp2.models.encoders import BatchDropout2d
from cp2.models.segmentor_files import build_segmentor
from cp2.protocols.segmentation.auxiliary import DeeplySupervised, set_dropout_rows
from cp2.settings.models import FcnSettings, ResNetSettings

HEAD = FcnSettings(kind="fcn", name="f", title="", channels=6, convs=1, dilation=1)


def resnet(stride: int) -> ResNetSettings:
    args = {"layers": [1, 1, 1, 1], "channels": [4, 4, 8, 16]}
    return ResNetSettings(
        family="resnet", name="t", title="", arch="resnet26", args=args, output_stride=stride
    )


@pytest.mark.parametrize(("stride", "cells"), [(8, (8, 8)), (16, (4, 4)), (32, (4, 2))])
def test_it_sees_the_last_stage_but_one(stride: int, cells: tuple[int, int]) -> None:
    model = build_segmentor(resnet(stride), HEAD, 5)
    trained = DeeplySupervised(model, HEAD).eval()
    assert model.backbone.stage_channels[-2] == 4 * 8
    assert trained.head.convs[0].conv.in_channels == 4 * 8
    images = torch.randn(2, 3, 64, 64)
    main, auxiliary = trained(images)
    assert torch.equal(main, model(images))
    assert (auxiliary.shape, main.shape) == ((2, 5, *cells[:1] * 2), (2, 5, *cells[1:] * 2))
    backbone = model.backbone
    x = backbone.maxpool(F.relu(backbone.bn1(backbone.conv1(images))))
    before = backbone.layer3(backbone.layer2(backbone.layer1(x)))
    torch.testing.assert_close(auxiliary, trained.conv_seg(trained.head(before)))


def test_its_loss_moves_no_later_stage() -> None:
    model = build_segmentor(resnet(16), HEAD, 5)
    trained = DeeplySupervised(model, HEAD)
    trained(torch.randn(2, 3, 64, 64))[1].sum().backward()
    assert all(p.grad is None for p in model.backbone.layer4.parameters())
    assert all(p.grad is None for p in model.head.parameters())
    assert model.backbone.layer3[0].conv1.weight.grad.abs().sum() > 0


def test_both_dropouts_learn_which_rows_come() -> None:
    trained = DeeplySupervised(build_segmentor(resnet(16), HEAD, 5), HEAD)
    set_dropout_rows(trained, (4, 8))
    rows = [m.rows for m in trained.modules() if isinstance(m, BatchDropout2d)]
    assert rows == [(4, 8)] * 2

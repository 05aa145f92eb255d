"""Backbones of family timm: shapes, weights, copies, batch norm and refusals."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from cp2.errors import UserError
from cp2.models.backbones import TimmBackbone, build_backbone
from cp2.models.batch_norm import group_batch_norm
from cp2.models.checkpoints import load_backbone
from cp2.models.published import read_published
from cp2.settings.models import IMAGENET_MEAN, IMAGENET_STD, TimmSettings, trained_as

SWIN = {
    "strict_img_size": False,
    "img_size": 64,
    "embed_dim": 16,
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 1, 2, 2),
    "window_size": 2,
}
VIT = {"dynamic_img_size": True, "img_size": 56, "embed_dim": 32, "depth": 2, "num_heads": 2}
REGISTERS = "vit_small_patch14_reg4_dinov2"
LITE = "tf_efficientnet_lite0"


def settings(arch: str = LITE, stride: int = 16, **changes: Any) -> TimmSettings:
    fields = {"family": "timm", "name": "b", "title": "", "arch": arch, "output_stride": stride}
    return TimmSettings(**(fields | changes))


def built(*args: Any, **changes: Any) -> TimmBackbone:
    torch.manual_seed(0)
    backbone = build_backbone(settings(*args, **changes))
    assert isinstance(backbone, TimmBackbone)
    return backbone.eval()


@pytest.mark.parametrize(
    ("arch", "stride", "args"),
    [
        (LITE, 16, {}),
        (LITE, 32, {}),
        ("convnext_atto", 16, {"depths": (1, 1, 1, 1)}),
        ("regnety_002", 8, {}),
        ("resnetv2_50", 16, {"layers": (1, 1, 1, 1)}),
        ("mobilenetv3_small_100", 32, {}),
        ("swin_tiny_patch4_window7_224", 32, SWIN),
        (REGISTERS, 14, VIT),
    ],
)
def test_maps_have_the_stride_and_width_that_they_say(
    arch: str, stride: int, args: dict[str, Any]
) -> None:
    backbone = built(arch, stride, args=args)
    rows, columns = 4, 5
    with torch.no_grad():
        found = backbone(torch.randn(2, 3, rows * stride, columns * stride))
    assert found.shape == (2, backbone.channels, rows, columns)
    assert backbone.stride == stride
    assert backbone.stage_channels[-1] == backbone.channels


def test_weights_of_a_file_of_timms_give_timms_maps(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = timm.create_model(LITE).eval()
    torch.save(whole.state_dict(), tmp_path / "lite.pth")
    read = read_published(tmp_path / "lite.pth", "timm", drop=("conv_head.", "bn2."))
    backbone = built(stride=32)
    load_backbone(backbone, read.backbone, "lite.pth")
    assert set(read.dropped) == {
        name for name in whole.state_dict() if name.startswith(("conv_head", "bn2", "classifier"))
    }
    features = timm.create_model(LITE, features_only=True).eval()  # another class of timm's
    features.load_state_dict(whole.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), features(images)[-1])
    again = built(stride=32)
    load_backbone(again, backbone.state_dict(), "our own names")
    assert torch.equal(again(images), backbone(images))


def test_a_copy_shares_nothing() -> None:
    backbone = built()
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
        images = torch.randn(1, 3, 32, 32)
        assert not torch.equal(backbone(images), other(images))


def test_groups_of_batch_norm_keep_activations() -> None:
    """timm's norms end with an activation, which another norm in their place must not lose."""
    plain, images = built(), torch.randn(6, 3, 32, 32)
    grouped = group_batch_norm(copy.deepcopy(plain), 6, 3)
    with torch.no_grad():
        torch.testing.assert_close(grouped(images), plain(images))
        plain.train()
        grouped.train()
        parts = torch.cat([copy.deepcopy(plain)(part) for part in images.split(3)])
        torch.testing.assert_close(grouped(images), parts)
    assert grouped.state_dict().keys() == plain.state_dict().keys()


def test_half_is_colours_from_minus_one_to_one() -> None:
    colours = torch.rand(1, 3, 32, 32)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    found = built(input="half").to_colours((colours - mean) / std)
    torch.testing.assert_close(found, 2 * colours - 1)


@pytest.mark.parametrize(
    ("arch", "stride", "args", "message"),
    [
        ("efficientnet_b99", 16, {}, "timm has no timm named arch: 'efficientnet_b99'. Nearest"),
        (LITE, 16, {"depht": 2}, "refuses args {'depht': 2}: .*'depht'. Look at the arguments of"),
        ("swin_tiny_patch4_window7_224", 16, SWIN, "refuses output_stride 16: .* Its own is 32:"),
        ("swin_tiny_patch4_window7_224", 32, {}, "one size only; write args: {strict_img_size: fa"),
        ("deit_tiny_distilled_patch16_224", 16, {}, "size only; write args: {dynamic_img_size: t"),
        (
            "cait_xxs24_224",
            16,
            {},
            "one size only; its class has no argument that changes it: take",
        ),
        ("mobilenetv3_small_100", 16, {}, "refuses output_stride 16: .* write output_stride: 32"),
        ("vgg11", 16, {}, "backbone b: timm's vgg11 refuses output_stride 16: AssertionError. Its"),
        (
            LITE,
            64,
            {},
            "asked for output_stride 64, timm's tf_efficientnet_lite0 makes 32. Its own",
        ),
        (LITE, 12, {}, "asked for output_stride 12, timm's .* makes 8. Its own is 32: write"),
        (LITE, 16, {"pretrained": True}, "args.pretrained is not allowed; use a checkpoint"),
    ],
)
def test_what_timm_cannot_do_is_a_message(
    arch: str, stride: int, args: dict[str, Any], message: str
) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=message):
        build_backbone(settings(arch, stride, args=args))


@pytest.mark.parametrize(
    ("arch", "stride", "args", "multiple"),
    [(REGISTERS, 14, VIT, 14), ("swin_tiny_patch4_window7_224", 32, SWIN, 4)],
)
@pytest.mark.parametrize("size", [(57, 99), (5, 58), (56, 97), (9, 11)])
def test_odd_sizes_are_filled_up_with_the_mean_colour(
    arch: str, stride: int, args: dict[str, Any], multiple: int, size: tuple[int, int]
) -> None:
    backbone = built(arch, stride, args=args, input="half")
    assert backbone.multiple == multiple
    images = torch.randn(2, 3, *size)
    sides = [-(-side // multiple) * multiple for side in size]
    filled = torch.zeros(2, 3, *sides)  # 0 is the mean of images that are normalised
    filled[..., : size[0], : size[1]] = images
    with torch.no_grad():
        found, due = backbone(images), tuple(backbone.net(backbone.to_colours(filled)))[-1]
    assert found.shape[-2:] == tuple(-(-side // stride) for side in size)
    assert torch.equal(found, due)


@pytest.mark.parametrize(
    ("arch", "stride", "args", "size"),
    [
        (REGISTERS, 14, VIT, (56, 98)),
        ("swin_tiny_patch4_window7_224", 32, SWIN, (56, 100)),
        (LITE, 16, {}, (57, 99)),  # takes any size itself
    ],
)
def test_sizes_that_a_network_takes_are_not_filled_up(
    arch: str, stride: int, args: dict[str, Any], size: tuple[int, int]
) -> None:
    backbone, images = built(arch, stride, args=args), torch.randn(1, 3, *size)
    with torch.no_grad():
        assert torch.equal(backbone(images), tuple(backbone.net(images))[-1])


@pytest.mark.parametrize(
    "arch", ["hrnet_w18_small", "dla46_c", "csatv2", "hieradet_small", "tresnet_m"]
)
def test_networks_that_halve_evenly_take_odd_sizes(arch: str) -> None:
    with torch.device("meta"):
        features = timm.create_model(arch, features_only=True)
        stride = features.feature_info.reduction()[-1]
        backbone = build_backbone(settings(arch, stride)).eval()
        found = backbone(torch.empty(1, 3, 231, 317))
    assert found.shape[-2:] == (-(-231 // stride), -(-317 // stride))


def test_the_optimiser_is_that_of_the_family_which_it_names() -> None:
    assert trained_as(settings()) == "resnet"
    assert trained_as(settings("convnext_atto", optimizer="vit")) == "vit"

import math

import pytest
import torch
import torchvision
from torch import nn

from cp2.errors import UserError
from cp2.models.backbones import build_backbone
from cp2.settings.models import ResNetSettings, ViTSettings

R50 = ResNetSettings(family="resnet", name="r50", title="ResNet-50", arch="resnet50")


def resnet_settings(**changes):
    return ResNetSettings(**{"family": "resnet", "name": "r", "title": "R", **changes})


def vit_settings(**changes):
    return ViTSettings(**{"family": "vit", "name": "v", "title": "V", "heads": 2, **changes})


@pytest.fixture(scope="module")
def r50():
    return build_backbone(R50)


@pytest.mark.parametrize(
    ("stride", "dilated"), [(8, [False, True, True]), (16, [False, False, True]), (32, None)]
)
def test_resnet50_equals_torchvision(stride, dilated):
    ours = build_backbone(R50.model_copy(update={"output_stride": stride})).eval()
    theirs = torchvision.models.resnet50(replace_stride_with_dilation=dilated).eval()
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    ours.load_state_dict(state)
    theirs.avgpool = nn.Identity()
    theirs.fc = nn.Identity()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = ours(images)
        expected = theirs(images).reshape_as(features)
    assert features.shape == (1, 2048, 64 // stride, 64 // stride)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_resnet50_has_torchvisions_318_tensors(r50):
    theirs = torchvision.models.resnet50().state_dict()
    expected = {k: v.shape for k, v in theirs.items() if not k.startswith("fc.")}
    assert {key: value.shape for key, value in r50.state_dict().items()} == expected
    assert len(expected) == 318
    assert sum(not key.endswith("num_batches_tracked") for key in expected) == 265


def test_last_stage_starts_with_dilation_one(r50):
    assert [block.conv2.dilation for block in r50.layer4] == [(1, 1), (2, 2), (2, 2)]
    assert [block.conv2.stride for block in r50.layer4] == [(1, 1)] * 3
    assert r50.layer4[0].downsample[0].stride == (1, 1)


def test_resnet_starts_as_torchvision_does(r50):
    weight = r50.layer1[0].conv2.weight
    fan_out = weight.shape[0] * 9
    assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    norms = [module for module in r50.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 53
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)


def test_zero_init_residual_zeroes_the_last_norm_of_each_block_only(resnet):
    settings = resnet_settings(arch="resnet26", args={"layers": [1, 1, 1, 1]})
    zeroed = {
        name
        for name, value in build_backbone(settings, zero_init_residual=True).state_dict().items()
        if name.endswith("weight") and (value == 0).all()
    }
    assert zeroed == {f"layer{stage}.0.bn3.weight" for stage in (1, 2, 3, 4)}


@pytest.mark.parametrize("size", [(15, 17), (16, 16), (33, 64), (95, 97)])
def test_resnet_rounds_odd_sizes_up(resnet, size):
    features = resnet(torch.randn(2, 3, *size))
    assert features.shape == (2, resnet.channels, *(math.ceil(side / 16) for side in size))
    assert resnet.stride == 16


@pytest.mark.parametrize("size", [(16, 16), (31, 47), (64, 64), (65, 97)])
def test_vit_rounds_odd_sizes_down(vit, size):
    images = torch.randn(2, 3, *size)
    features = vit(images)
    rows, columns = (side // 16 for side in size)
    assert features.shape == (2, 32, rows, columns)
    whole_patches = vit(images[..., : rows * 16, : columns * 16])
    torch.testing.assert_close(features, whole_patches, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(5, 40), (40, 1), (3, 3)])
def test_vit_sees_a_strip_as_one_row_of_patches(vit, size):
    images = torch.randn(1, 3, *size)
    filled = torch.zeros(1, 3, max(16, size[0]), max(16, size[1]))
    filled[..., : size[0], : size[1]] = images
    torch.testing.assert_close(vit(images), vit(filled), rtol=0, atol=0)


def test_vit_equals_its_formula_written_out(vit):
    """Pre-norm blocks with attention by hand, class token first, no norm at the end."""
    vit.eval()
    images = torch.randn(2, 3, 64, 64)
    state = vit.state_dict()

    def norm(x, name):
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / (var + 1e-6).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    kernel = state["patch_embed.proj.weight"].reshape(32, -1)
    rows = []
    for image in images:
        patches = [
            kernel @ image[:, y : y + 16, x : x + 16].reshape(-1) + state["patch_embed.proj.bias"]
            for y in range(0, 64, 16)
            for x in range(0, 64, 16)
        ]
        rows.append(torch.stack([state["cls_token"][0, 0], *patches]))
    x = torch.stack(rows) + state["pos_embed"]
    for block in ("blocks.0", "blocks.1"):
        q, k, v = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, dim=-1)
        heads = []
        for part in (slice(0, 16), slice(16, 32)):
            scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(16)
            heads.append(scores.softmax(-1) @ v[..., part])
        x = x + linear(torch.cat(heads, -1), f"{block}.attn.proj")
        hidden = linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        x = x + linear(hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))), f"{block}.mlp.fc2")
    expected = torch.stack([x[:, 1 + i] for i in range(16)], dim=-1).reshape(2, 32, 4, 4)
    torch.testing.assert_close(vit(images), expected, rtol=1e-4, atol=1e-5)


def test_vit_norms_its_output_only_when_asked():
    args = {"embed_dim": 32, "depth": 1, "img_size": 32}
    without = build_backbone(vit_settings(arch="vit_small_patch16_224", args=args))
    normed = build_backbone(vit_settings(arch="vit_small_patch16_224", args=args, final_norm=True))
    missing = normed.state_dict().keys() - without.state_dict().keys()
    assert missing == {"norm.weight", "norm.bias"}
    channels_first = normed(torch.randn(1, 3, 32, 32))
    torch.testing.assert_close(channels_first.mean(1), torch.zeros(1, 2, 2), rtol=0, atol=1e-5)


def test_vit_heads_are_those_of_the_settings():
    args = {"embed_dim": 48, "depth": 1, "img_size": 32}
    for heads in (3, 6):
        backbone = build_backbone(
            vit_settings(arch="vit_small_patch16_224", args=args, heads=heads)
        )
        assert backbone.heads == backbone.blocks[0].attn.num_heads == heads


@pytest.mark.parametrize("fixture", ["resnet", "vit"])
def test_every_parameter_gets_a_gradient(fixture, request):
    backbone = request.getfixturevalue(fixture)
    backbone(torch.randn(2, 3, 48, 48)).square().sum().backward()
    without = [name for name, p in backbone.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (resnet_settings(arch="resnet5"), ["backbone r", "'resnet5'", "resnet50", "list_models"]),
        (resnet_settings(arch="vit_small_patch16_224"), ["no resnet named", "vit_small"]),
        (vit_settings(arch="resnet50"), ["no vit named", "resnet50"]),
        (resnet_settings(arch="resnet18", args={"depht": 3}), ["refuses", "depht", "YAML"]),
        (
            resnet_settings(arch="resnet18", args={"output_stride": 8}),
            ["args.output_stride is not allowed", "beside args"],
        ),
        (
            vit_settings(arch="vit_small_patch16_224", args={"num_heads": 3}),
            ["args.num_heads is not allowed", "heads: beside args"],
        ),
        (
            resnet_settings(arch="resnet18", args={"pretrained": True}),
            ["args.pretrained is not allowed", "checkpoint"],
        ),
        (
            vit_settings(arch="vit_small_patch16_224", args={"embed_dim": 33}),
            ["refuses", "divisible"],
        ),
        (vit_settings(arch="vit_medium_patch16_gap_256"), ["not a plain vision transformer"]),
    ],
)
def test_wrong_settings_say_what_to_do(settings, words):
    with pytest.raises(UserError) as error:
        build_backbone(settings)
    for word in words:
        assert word in str(error.value)

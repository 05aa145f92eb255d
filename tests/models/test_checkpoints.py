import copy

import pytest
import torch

from cp2.errors import WrongFile
from cp2.models.backbones import build_backbone, resize_positions
from cp2.models.checkpoints import (
    load_backbone,
    load_head,
    write_moco_checkpoint,
)
from cp2.models.encoders import DenseProjection, GlobalEncoder
from cp2.models.heads import build_head
from cp2.models.published import read_published
from cp2.settings.models import AsppSettings, ViTSettings

ASPP = AsppSettings(kind="aspp", name="a", title="A", channels=4, dilations=(1, 2))


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(state[key], value), key


def vit_settings(**changes):
    fields = {
        "family": "vit",
        "name": "v",
        "title": "V",
        "arch": "vit_small_patch16_224",
        "args": {"embed_dim": 32, "depth": 2, "img_size": 64},
        "heads": 2,
    }
    return ViTSettings(**(fields | changes))


@pytest.fixture(params=["resnet", "vit"])
def backbone(request):
    return request.getfixturevalue(request.param)


def fresh_like(backbone):
    """Another backbone of the same kind, with every tensor changed."""
    other = copy.deepcopy(backbone)
    for tensor in other.state_dict().values():
        tensor.add_(1)
    return other


# --- MoCo's layout ---


def test_moco_round_trip(backbone, tmp_path):
    encoder = GlobalEncoder(backbone, dim=8)
    queue = torch.randn(8, 32)
    path = tmp_path / "checkpoint_0199.pth.tar"
    write_moco_checkpoint(path, encoder.state_dict(), queue, 200, "tiny")

    container = torch.load(path, weights_only=True)
    assert (container["epoch"], container["arch"]) == (200, "tiny")
    state = container["state_dict"]
    assert torch.equal(state["module.queue"], queue)
    assert state["module.queue_ptr"].tolist() == [0]
    assert state["module.encoder_q.fc.0.weight"].shape == (backbone.channels, backbone.channels)

    checkpoint = read_published(path, "moco")
    assert_same(checkpoint.backbone, backbone.state_dict())
    assert checkpoint.head is None
    assert set(checkpoint.dropped) == {"epoch", "arch"} | {
        key for key in state if key.removeprefix("module.encoder_q.") not in checkpoint.backbone
    }
    other = fresh_like(backbone)
    assert load_backbone(other, checkpoint.backbone, path) == []
    assert_same(other.state_dict(), backbone.state_dict())


def test_equal_moco_checkpoints_are_equal_files(resnet, tmp_path):
    state = GlobalEncoder(resnet, dim=8).state_dict()
    for name in ("one.pth.tar", "another.pth.tar"):
        write_moco_checkpoint(tmp_path / name, state, torch.zeros(8, 4), 1, "tiny")
    one, another = ((tmp_path / n).read_bytes() for n in ("one.pth.tar", "another.pth.tar"))
    assert one == another
    assert sorted(p.name for p in tmp_path.iterdir()) == ["another.pth.tar", "one.pth.tar"]


@pytest.mark.parametrize(
    ("prefix", "classifier"),
    [
        ("module.encoder_q.", "fc"),  # MoCo v1
        ("encoder_q.", "fc.2"),  # saved without DDP
        ("module.base_encoder.", "head"),  # MoCo v3's ViT
    ],
)
def test_moco_prefixes(resnet, tmp_path, prefix, classifier):
    state = {prefix + key: value for key, value in resnet.state_dict().items()}
    state[f"{prefix}{classifier}.weight"] = torch.zeros(2, 2)
    state["module.momentum_encoder.conv1.weight"] = torch.zeros(2)
    torch.save({"state_dict": state}, tmp_path / "file.pth")
    checkpoint = read_published(tmp_path / "file.pth", "moco")
    assert_same(checkpoint.backbone, resnet.state_dict())
    assert checkpoint.dropped == [
        f"{prefix}{classifier}.weight",
        "module.momentum_encoder.conv1.weight",
    ]


# --- flat layouts ---


@pytest.mark.parametrize("layout", ["torchvision", "timm"])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
@pytest.mark.parametrize("wrapper", ["", "module."])
def test_flat_layouts(resnet, tmp_path, layout, container, wrapper):
    state = resnet.state_dict() | {"fc.weight": torch.zeros(2, 2)}
    state = {wrapper + key: value for key, value in state.items()}
    torch.save({container: state} if container else state, tmp_path / "file.pth")
    checkpoint = read_published(tmp_path / "file.pth", layout)
    assert_same(checkpoint.backbone, resnet.state_dict())
    assert checkpoint.dropped == [f"{wrapper}fc.weight"]


def test_half_precision_becomes_float32_and_old_formats_are_read(resnet, tmp_path):
    path = tmp_path / "old.pth"
    torch.save(resnet.half().state_dict(), path, _use_new_zipfile_serialization=False)
    checkpoint = read_published(path, "torchvision")
    types = {value.dtype for value in checkpoint.backbone.values()}
    assert types == {torch.float32, torch.int64}


def test_tensors_outlive_the_file(resnet, tmp_path):
    path = tmp_path / "file.pth"
    torch.save(resnet.state_dict(), path)
    checkpoint = read_published(path, "torchvision")
    with path.open("r+b") as file:
        file.truncate(0)
    assert_same(checkpoint.backbone, resnet.state_dict())


# --- the authors' layouts ---


@pytest.mark.parametrize(
    ("prefix", "backbone_prefix", "head_prefix"),
    [
        ("", "", ""),
        ("", "backbone.", "decode_head."),
        ("module.", "backbone.", "decode_head."),
        ("module.encoder_q.", "backbone.", "decode_head."),
    ],
)
def test_cp2_layouts(resnet, tmp_path, prefix, backbone_prefix, head_prefix):
    head = build_head(ASPP, resnet.channels)
    projection = DenseProjection(4, dim=3)
    state = {f"{prefix}{backbone_prefix}{k}": v for k, v in resnet.state_dict().items()}
    state |= {f"{prefix}{head_prefix}{k}": v for k, v in head.state_dict().items()}
    contrast = f"{prefix}{head_prefix}contrast_conv."
    state |= {contrast + k: v for k, v in projection.state_dict().items()}
    unused = [f"{prefix}{head_prefix}conv_seg.weight"]
    if backbone_prefix:
        unused.append(f"{prefix}auxiliary_head.convs.0.conv.weight")
    if prefix == "module.encoder_q.":
        unused.append("module.encoder_k.backbone.conv1.weight")
    torch.save({"state_dict": state | dict.fromkeys(unused, torch.zeros(2))}, tmp_path / "f.pth")

    checkpoint = read_published(tmp_path / "f.pth", "cp2")
    assert_same(checkpoint.backbone, resnet.state_dict())
    assert_same(checkpoint.head, head.state_dict())
    assert_same(checkpoint.projection, projection.state_dict())
    assert checkpoint.dropped == unused


def test_cp2_file_without_a_head(resnet, tmp_path):
    torch.save(resnet.state_dict(), tmp_path / "file.pth")
    checkpoint = read_published(tmp_path / "file.pth", "cp2")
    assert (checkpoint.head, checkpoint.projection) == (None, None)


@pytest.mark.parametrize(
    ("layout", "key", "wanted"),
    [
        ("moco", "conv1.weight", "encoder_q."),
        ("cp2", "decode_head.bottleneck.conv.weight", "backbone.conv1.weight"),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path, layout, key, wanted):
    torch.save({key: torch.zeros(1)}, tmp_path / "file.pth")
    with pytest.raises(WrongFile) as error:
        read_published(tmp_path / "file.pth", layout)
    for word in ("file.pth", f"not of layout {layout}", wanted, key, "checkpoints.yaml"):
        assert word in str(error.value)


# --- loading ---


def test_mismatches_are_listed_and_nothing_is_loaded(resnet):
    before = {key: value.clone() for key, value in resnet.state_dict().items()}
    state = {key: value + 1 for key, value in before.items()}
    del state["conv1.weight"]
    state["extra.weight"] = torch.zeros(1)
    state["bn1.bias"] = torch.zeros(3)
    with pytest.raises(WrongFile) as error:
        load_backbone(resnet, state, "moco.pth.tar")
    for text in (
        "moco.pth.tar does not fit the backbone; nothing was loaded",
        "1 missing: conv1.weight",
        "1 unexpected: extra.weight",
        "1 of another shape: bn1.bias (3,), expected (64,)",
        "layout in configs/checkpoints.yaml",
    ):
        assert text in str(error.value)
    assert_same(resnet.state_dict(), before)


@pytest.mark.parametrize(("extra", "cut"), [(20, False), (21, True)])
def test_long_lists_are_cut_after_20_keys(resnet, extra, cut):
    state = resnet.state_dict() | {f"extra.{i:02}": torch.zeros(1) for i in range(extra)}
    with pytest.raises(WrongFile, match=f"{extra} unexpected: extra.00") as error:
        load_backbone(resnet, state, "file")
    assert "extra.19" in str(error.value)
    assert "extra.20" not in str(error.value)
    assert (", and 1 more" in str(error.value)) == cut


def test_missing_batch_counters_are_set_to_zero_and_reported(resnet):
    state = {
        key: value
        for key, value in resnet.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    counters = len(resnet.state_dict()) - len(state)
    resnet.bn1.num_batches_tracked.fill_(7)
    notes = load_backbone(resnet, state, "resnet50-19c8e357.pth")
    assert notes == [f"set {counters} num_batches_tracked to 0: the file has none"]
    assert resnet.bn1.num_batches_tracked == 0
    assert not any(key.endswith("num_batches_tracked") for key in state)


def test_heads_load_as_strictly(resnet):
    head, other = build_head(ASPP, resnet.channels), build_head(ASPP, resnet.channels)
    assert load_head(head, other.state_dict(), "file") == []
    assert_same(head.state_dict(), other.state_dict())
    wider = build_head(ASPP, resnet.channels + 1)
    with pytest.raises(WrongFile, match=r"does not fit the head.*\n.*3 of another shape"):
        load_head(head, wider.state_dict(), "file")


def test_positions_of_another_grid_are_resized_and_reported(vit):
    settings = vit_settings(args={"embed_dim": 32, "depth": 2, "img_size": [32, 96]})
    wide = build_backbone(settings)
    notes = load_backbone(wide, vit.state_dict(), "file")
    assert notes == ["resized pos_embed from a grid of 4x4 to 2x6"]
    assert torch.equal(wide.pos_embed, resize_positions(vit.pos_embed, (4, 4), (2, 6)))


@pytest.mark.parametrize("shape", [(1, 16, 32), (1, 10, 31), (17, 32)])
def test_positions_that_cannot_be_resized_are_a_wrong_shape(vit, shape):
    state = vit.state_dict() | {"pos_embed": torch.zeros(shape)}
    with pytest.raises(WrongFile, match="1 of another shape: pos_embed"):
        load_backbone(vit, state, "file")


def test_final_norm_is_dropped_where_it_is_not_used(vit):
    normed = build_backbone(vit_settings(final_norm=True))
    assert load_backbone(vit, normed.state_dict(), "file") == [
        "dropped norm.weight: the backbone has no final norm",
        "dropped norm.bias: the backbone has no final norm",
    ]
    with pytest.raises(WrongFile, match=r"2 missing: norm\.bias, norm\.weight"):
        load_backbone(normed, vit.state_dict(), "file")


def test_another_number_of_heads_is_refused(vit):
    state = vit.state_dict()
    assert load_backbone(vit, state, "file", {"heads": "2"}) == []
    with pytest.raises(WrongFile, match=r"file was trained with 4 attention heads.*has 2.*heads"):
        load_backbone(vit, state, "file", {"heads": "4"})


def test_weights_that_are_not_finite_are_refused(resnet):
    state = {key: tensor.clone() for key, tensor in resnet.state_dict().items()}
    state["conv1.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(WrongFile, match=r"a file: 1 not finite: conv1\.weight; .*earlier one"):
        load_backbone(resnet, state, "a file")

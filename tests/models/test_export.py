"""Exports, loaded by the libraries they are for: strictly, and with the same features."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cp2.errors import UserError
from cp2.models.backbones import build_backbone
from cp2.models.export.targets import TARGETS, Network, check, snippet, state_dict
from cp2.models.heads import build_head
from cp2.models.segmentor_files import build_segmentor
from cp2.settings.models import AsppSettings, BackboneSettings, ResNetSettings, TimmSettings

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
RESNET18 = tiny.resnet(arch="resnet18", args={}, output_stride=32)
RESNET50 = tiny.resnet(arch="resnet50", args={}, output_stride=16)
IMAGES = torch.linspace(-2, 2, 2 * 3 * 64 * 64).sin().view(2, 3, 64, 64)


def network(settings: BackboneSettings) -> tuple[Network, Tensor]:
    """A backbone whose batch norms have seen an image, and its map of IMAGES."""
    backbone = build_backbone(settings)
    backbone.train()(IMAGES)
    with torch.inference_mode():
        return Network("pretrain/x", settings, backbone.state_dict()), backbone.eval()(IMAGES)


def loaded(to: str, exported: Network, folder: Path) -> Any:
    """The model that the snippet makes."""
    target = TARGETS[to]
    check(target, exported, with_head=False)
    target.write(folder / target.file, state_dict(target, exported, False), exported)
    names: dict[str, Any] = {}
    exec(snippet(target, exported, folder), names)
    return names["model"].eval()


@pytest.mark.parametrize("settings", [tiny.resnet(), RESNET18, tiny.vit(64, depth=2)])
@torch.inference_mode()
def test_timm(settings: BackboneSettings, tmp_path: Path) -> None:
    exported, wanted = network(settings)
    model = loaded("timm", exported, tmp_path)
    found = model.forward_features(IMAGES)
    if found.ndim == 3:  # tokens
        found = found[:, 1:].transpose(1, 2).unflatten(2, wanted.shape[2:])
    torch.testing.assert_close(found, wanted)
    config = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    assert config["mean"] == [0.485, 0.456, 0.406]


@pytest.mark.parametrize(
    ("arch", "stride", "args"),
    [
        ("mobilenetv3_small_050", 32, {}),
        ("convnext_atto", 16, {}),
        ("swin_tiny_patch4_window7_224", 32, {"strict_img_size": False, "depths": [1, 1, 1, 1]}),
    ],
)
@torch.inference_mode()
def test_timm_gives_the_last_map_of_its_other_networks(
    arch: str, stride: int, args: dict[str, Any], tmp_path: Path
) -> None:
    settings = TimmSettings(
        family="timm", name="x", title="", arch=arch, output_stride=stride, args=args
    )
    exported, wanted = network(settings)
    (found,) = loaded("timm", exported, tmp_path)(IMAGES)
    found = found if found.shape == wanted.shape else found.permute(0, 3, 1, 2)
    torch.testing.assert_close(found, wanted)
    with pytest.raises(UserError, match=f"has no {arch} of this form; use timm or huggingface"):
        check(TARGETS["mmseg"], exported, with_head=False)


def test_timm_is_told_that_colours_are_not_normalised(tmp_path: Path) -> None:
    exported, _ = network(tiny.resnet(input="zero-one"))
    loaded("huggingface", exported, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    assert (config["mean"], config["std"]) == ([0, 0, 0], [1, 1, 1])


@pytest.mark.parametrize("settings", [RESNET18, RESNET50])
@torch.inference_mode()
def test_torchvision(settings: ResNetSettings, tmp_path: Path) -> None:
    exported, wanted = network(settings)
    model = loaded("torchvision", exported, tmp_path)
    found = nn.Sequential(*list(model.children())[:-2])(IMAGES)
    torch.testing.assert_close(found, wanted)


@torch.inference_mode()
def test_segmentation_models_pytorch(tmp_path: Path) -> None:
    exported, wanted = network(RESNET18)
    model = loaded("smp", exported, tmp_path)
    torch.testing.assert_close(model.encoder(IMAGES)[-1], wanted)


def test_mmsegmentation_has_the_names_of_the_authors_model() -> None:
    """Their ResNet-50 with ASPP is mmsegmentation's, but for their projection."""
    aspp = AsppSettings(kind="aspp", title="", name="deeplabv3", channels=512)
    model = build_segmentor(RESNET50, aspp, 21)
    exported = Network(
        "finetune/x",
        RESNET50,
        model.backbone.state_dict(),
        (aspp, model.head.state_dict()),
        model.conv_seg.state_dict(),
    )
    found = {n: list(t.shape) for n, t in state_dict(TARGETS["mmseg"], exported, True).items()}
    wanted = json.loads((GOLDEN / "cp2_r50_aspp_keys.json").read_text())
    wanted = {name: shape for name, shape in wanted.items() if ".contrast_conv." not in name}
    classifier = {f"decode_head.conv_seg.{part}" for part in ("weight", "bias")}
    assert {n: s for n, s in found.items() if n not in classifier} == {
        n: s for n, s in wanted.items() if n not in classifier
    }
    assert classifier < found.keys()


class MmsegBlock(nn.Module):
    """mmsegmentation's TransformerEncoderLayer, as far as names and arithmetic go."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.attn = nn.Module()
        self.attn.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.ffn = nn.Module()
        self.ffn.layers = nn.Sequential(
            nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU()), nn.Linear(4 * dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = self.ln1(x)
        x = x + self.attn.attn(seen, seen, seen, need_weights=False)[0]
        return x + self.ffn.layers(self.ln2(x))


class MmsegViT(nn.Module):
    """mmsegmentation's VisionTransformer without its final norm."""

    def __init__(self, dim: int, depth: int, heads: int, positions: int) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.projection = nn.Conv2d(3, dim, 16, 16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + positions, dim))
        self.layers = nn.ModuleList(MmsegBlock(dim, heads) for _ in range(depth))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.patch_embed.projection(images)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), maps.flatten(2).mT], 1)
        x = x + self.pos_embed
        for layer in self.layers:
            x = layer(x)
        return x[:, 1:].mT.unflatten(2, maps.shape[2:])


@torch.inference_mode()
def test_mmsegmentations_vision_transformer() -> None:
    exported, wanted = network(tiny.vit(64, depth=2))
    model = MmsegViT(32, 2, 2, 16).eval()
    state = state_dict(TARGETS["mmseg"], exported, False)
    model.load_state_dict({n.removeprefix("backbone."): tensor for n, tensor in state.items()})
    torch.testing.assert_close(model(IMAGES), wanted)
    config: dict[str, Any] = {}
    exec(snippet(TARGETS["mmseg"], exported, Path("x")), config)
    backbone = config["model"]["backbone"]
    assert (backbone["num_layers"], backbone["num_heads"], backbone["embed_dims"]) == (2, 2, 32)


def test_detectron2_has_the_names_of_its_own_model(tmp_path: Path) -> None:
    exported, _ = network(RESNET50)
    target = TARGETS["detectron2"]
    path = tmp_path / target.file
    target.write(path, state_dict(target, exported, False), exported)
    content = pickle.loads(path.read_bytes())
    prefix = "backbone.bottom_up."
    wanted = {
        theirs.removeprefix(prefix): exported.backbone[ours].numpy()
        for theirs, ours, _ in json.loads((GOLDEN / "det_fpn_keys.json").read_text())
        if theirs.startswith(prefix) and not theirs.endswith("num_batches_tracked")
    }
    assert content["model"].keys() == wanted.keys()
    assert all((content["model"][name] == array).all() for name, array in wanted.items())


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    exported, _ = network(tiny.resnet())
    target = TARGETS["timm"]
    for name in ("a", "b"):
        target.write(tmp_path / name, state_dict(target, exported, False), exported)
    assert load_file(tmp_path / "a").keys() == exported.backbone.keys()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    (tmp_path / "c").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "c").stat().st_mode  # also for others


@pytest.mark.parametrize(
    ("to", "settings", "head", "message"),
    [
        ("timm", tiny.resnet(padding="same"), False, "pad as TensorFlow does"),
        ("torchvision", tiny.resnet(), False, "found resnet26 with .*; use timm or huggingface"),
        ("smp", tiny.vit(), False, "no vit_small_patch16_224 of this form; use timm or mmseg or"),
        ("detectron2", tiny.vit(), False, "no vit_small_patch16_224"),
        ("torchvision", RESNET50.model_copy(update={"input": "zero-one"}), False, "from 0 to 1"),
        ("timm", RESNET50, True, "with its head: only mmseg"),
        ("mmseg", RESNET50, True, "no segmentation head"),
    ],
)
def test_what_a_library_cannot_express(
    to: str, settings: BackboneSettings, head: bool, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check(TARGETS[to], Network("pretrain/x", settings, {}), head)


@pytest.mark.parametrize("to", sorted(TARGETS))
def test_the_documents_snippet_is_the_cards(to: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "use-the-weights.md").read_text()
    exported = Network("pretrain/x", RESNET50, {})
    assert snippet(TARGETS[to], exported, Path("exported")) in text


def test_heads_are_named_as_mmsegmentations() -> None:
    aspp = AsppSettings(kind="aspp", title="", name="aspp", channels=8)
    head = build_head(aspp, 16).state_dict()
    exported = Network("pretrain/x", RESNET50, {}, (aspp, head))
    assert state_dict(TARGETS["mmseg"], exported, True).keys() == {
        f"decode_head.{name}" for name in head
    }

"""Libraries that weights are exported to: what each can express, its names, files and snippet."""

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from cp2.errors import UserError
from cp2.models.backbones import TimmBackbone
from cp2.models.conventions import input_statistics
from cp2.models.export.names import detectron2_resnet, mmseg_backbone, mmseg_head
from cp2.models.weights import State
from cp2.settings.models import (
    BackboneSettings,
    HeadSettings,
    ResNetSettings,
    TimmSettings,
    ViTSettings,
)

_BASIC = ("resnet18", "resnet34")
_RESNETS = (*_BASIC, "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class Network:
    """What is exported.

    Attributes:
        name: of the run, for error texts.
        settings: of the backbone.
        backbone: its state dict.
        head: settings and state dict of the segmentation head, if the run trained one.
        classifier: state dict of the head's last 1x1 convolution (finetuned models), or None.
    """

    name: str
    settings: BackboneSettings
    backbone: State
    head: tuple[HeadSettings, State] | None = None
    classifier: State | None = None


@dataclass(frozen=True)
class Target:
    """A library.

    Attributes:
        title: its name.
        file: the weights' file name.
        names: backbone's state dict -> as named there.
        write: (file, state dict, network) -> the weights' file, and others beside it.
        snippet: how it is loaded; `snippet` fills it in.
        vit: has our vision transformers.
        archs: timm's names of the ResNets that it has; None: all.
        states_input: its files or configurations say what the input is normalised by.
        heads: has our heads.
    """

    title: str
    file: str
    names: Callable[[State], State]
    write: Callable[[Path, State, Network], None]
    snippet: str
    vit: bool = False
    archs: tuple[str, ...] | None = _RESNETS
    states_input: bool = True
    heads: bool = False


def check(target: Target, network: Network, with_head: bool) -> None:
    """Refuse what the library cannot express.

    Raises:
        UserError: architecture, padding, input or head; says which libraries can.
    """
    settings, where = network.settings, f"{network.name}: cannot be exported to {target.title}"
    if isinstance(settings, ResNetSettings):
        if settings.padding != "symmetric":
            raise UserError(
                f"{where}: its convolutions pad as TensorFlow does (padding: {settings.padding}), "
                "which no ResNet outside this project does; other numbers would come out"
            )
        if settings.input != "imagenet" and not target.states_input:
            raise UserError(
                f"{where}: it sees colours from 0 to 1, not normalised by ImageNet's mean and "
                "deviation, and a file there cannot say so; use "
                + _others(lambda one: one.states_input)
            )
        if target.archs is not None and (settings.arch not in target.archs or settings.args):
            raise UserError(
                f"{where}, which has {', '.join(target.archs)}: found {settings.arch}"
                f"{f' with {settings.args}' if settings.args else ''}; use "
                + _others(lambda one: one.archs is None)
            )
    elif not (target.vit if settings.family == "vit" else target.archs is None):
        raise UserError(
            f"{where}, which has no {settings.arch} of this form; use "
            + _others(lambda one: one.vit and (settings.family == "vit" or one.archs is None))
        )
    if with_head and not target.heads:
        raise UserError(
            f"{where} with its head: only {_others(lambda one: one.heads)} has these heads; leave "
            "--head out"
        )
    if with_head and network.head is None:
        raise UserError(f"{network.name}: --head: this run has no segmentation head")


def _others(condition: Callable[[Target], bool]) -> str:
    return " or ".join(name for name, one in TARGETS.items() if condition(one)) or "none"


def state_dict(target: Target, network: Network, with_head: bool) -> State:
    """All tensors under the library's names, float32."""
    timm = isinstance(network.settings, TimmSettings)
    state = whole_timm(network) if timm else target.names(network.backbone)
    if with_head and network.head is not None:
        state |= mmseg_head(network.head[1])
        state |= mmseg_head({f"conv_seg.{k}": t for k, t in (network.classifier or {}).items()})
    return {name: tensor.contiguous() for name, tensor in state.items()}


def whole_timm(network: Network) -> State:
    """The state dict of all of a network of family timm.

    What comes behind the last map is not trained here, and 0: timm loads whole networks only.
    """
    import timm  # here, because it costs seconds

    settings = network.settings
    state = timm.create_model(settings.arch, num_classes=0, **settings.args).state_dict()
    own = {
        name.removeprefix(TimmBackbone.prefix): tensor for name, tensor in network.backbone.items()
    }
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()} | own


def model_args(settings: BackboneSettings) -> dict[str, Any]:
    """Arguments with which timm makes the very network."""
    if isinstance(settings, TimmSettings):
        import timm

        last: dict[str, Any] = {"features_only": True, "feature_cls": "getter", "out_indices": [-1]}
        net: Any = timm.create_model(settings.arch, **last, **settings.args)
        dilated = net.feature_info.reduction()[-1] != settings.output_stride
        stride = {"output_stride": settings.output_stride} if dilated else {}
        return {**last, **stride, **settings.args}
    if isinstance(settings, ResNetSettings):
        return {"output_stride": settings.output_stride, **settings.args}
    assert isinstance(settings, ViTSettings)
    ours = {"num_heads": settings.heads, "final_norm": settings.final_norm}
    return {**ours, "dynamic_img_size": True, "global_pool": "avg", **settings.args}


def snippet(target: Target, network: Network, folder: Path) -> str:
    """How the exported folder is loaded: Python, or the library's configuration."""
    settings = network.settings
    mean, std = ([round(255 * value, 3) for value in part] for part in input_statistics(settings))
    fields: dict[str, Any] = {"folder": folder, "arch": settings.arch, "mean": mean, "std": std}
    if isinstance(settings, ResNetSettings):
        stride, depth = settings.output_stride, settings.arch.removeprefix("resnet")
        basic = settings.arch in _BASIC  # whose blocks cannot be dilated in either library
        dilated = f"replace_stride_with_dilation={[False, stride < 16, stride < 32]}"
        fields |= {
            "depth": depth,
            "dilated": "" if basic or stride == 32 else dilated,
            "detectron2": "RES2_OUT_CHANNELS: 64" if basic else f"RES5_DILATION: {32 // stride}",
            "mmseg": _keywords(type='"ResNet"', depth=depth, **_MMSEG_STRIDES[stride]),
        }
    elif isinstance(settings, ViTSettings):
        fields["mmseg"] = _keywords(
            type='"VisionTransformer"',
            embed_dims=network.backbone["cls_token"].shape[-1],
            num_layers=sum(name.endswith("attn.qkv.weight") for name in network.backbone),
            num_heads=settings.heads,
            final_norm=settings.final_norm,
        )
    return target.snippet.format(**fields)


_MMSEG_STRIDES: dict[int, dict[str, Any]] = {  # contracted: a stage's first block is not dilated
    8: {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4), "contract_dilation": True},
    16: {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2), "contract_dilation": True},
    32: {},
}


def _keywords(**values: Any) -> str:
    return "\n".join(f"        {key}={value}," for key, value in values.items())


def _write_timm(path: Path, state: State, network: Network) -> None:
    """model.safetensors, and the config.json that timm and Hugging Face's hub read."""
    settings = network.settings
    path.write_bytes(save(state, {"format": "pt"}))  # its own files only their owner may read
    mean, std = input_statistics(settings)
    side = settings.args.get("img_size", 224)
    config = {
        "architecture": settings.arch,
        "num_classes": 0,
        "model_args": model_args(settings),
        "pretrained_cfg": {
            "num_classes": 0,
            "input_size": [3, side, side],
            "mean": mean,
            "std": std,
            "interpolation": "bicubic",
            "fixed_input_size": False,
            "license": "other",
        },
    }
    path.with_name("config.json").write_text(json.dumps(config, indent=2) + "\n")


def _write_torch(path: Path, state: State, network: Network) -> None:
    torch.save(state, path)


def _write_mmseg(path: Path, state: State, network: Network) -> None:
    torch.save({"meta": {"run": network.name}, "state_dict": state}, path)


def _write_detectron2(path: Path, state: State, network: Network) -> None:
    """The pickle of arrays that detectron2's own converters write."""
    model = {name: tensor.numpy() for name, tensor in state.items()}
    content = {"model": model, "__author__": network.name, "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content))


_TIMM = """\
import timm

model = timm.create_model("local-dir:{folder}", pretrained=True)
config = timm.data.resolve_model_data_config(model)  # size, mean and deviation of its input
"""
_TORCHVISION = """\
import torch
import torchvision

model = torchvision.models.{arch}({dilated})
model.fc = torch.nn.Identity()
model.load_state_dict(torch.load("{folder}/model.pth", weights_only=True))
"""
_SMP = """\
import segmentation_models_pytorch as smp
import torch

model = smp.Unet("{arch}", encoder_weights=None, classes=21)
model.encoder.load_state_dict(torch.load("{folder}/model.pth", weights_only=True))
"""
_MMSEG = """\
model = dict(
    data_preprocessor=dict(
        mean={mean}, std={std}, bgr_to_rgb=True
    ),
    backbone=dict(
{mmseg}
    ),
    init_cfg=dict(type="Pretrained", checkpoint="{folder}/model.pth"),
)
"""
_DETECTRON2 = """\
MODEL:
  WEIGHTS: "{folder}/model.pkl"
  PIXEL_MEAN: {mean}
  PIXEL_STD: {std}
  RESNETS: {{DEPTH: {depth}, STRIDE_IN_1X1: False, {detectron2}}}
INPUT: {{FORMAT: "RGB"}}
"""

_OF_TIMM = Target("timm", "model.safetensors", dict, _write_timm, _TIMM, vit=True, archs=None)
_OF_TORCHVISION = Target(
    "torchvision", "model.pth", dict, _write_torch, _TORCHVISION, states_input=False
)
TARGETS = {
    "timm": _OF_TIMM,
    "torchvision": _OF_TORCHVISION,
    "mmseg": Target(
        "mmsegmentation", "model.pth", mmseg_backbone, _write_mmseg, _MMSEG, vit=True, heads=True
    ),
    "detectron2": Target(
        "detectron2", "model.pkl", detectron2_resnet, _write_detectron2, _DETECTRON2
    ),
    "smp": replace(_OF_TORCHVISION, title="segmentation-models-pytorch", snippet=_SMP),
    "huggingface": replace(_OF_TIMM, title="Hugging Face's hub"),
}

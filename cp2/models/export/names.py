"""Names of a backbone's and a head's parameters in other libraries."""

import re

from cp2.models.weights import State

# mmsegmentation's VisionTransformer (its tools/model_converters/vit2mmseg.py), in this order.
_MMSEG_VIT = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^norm\.", "ln1."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"layers.\1.ln\2."),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"layers.\1.attn.attn.in_proj_"),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"layers.\1.attn.attn.out_proj."),
    (r"^blocks\.(\d+)\.mlp\.fc1\.", r"layers.\1.ffn.layers.0.0."),
    (r"^blocks\.(\d+)\.mlp\.fc2\.", r"layers.\1.ffn.layers.1."),
)
# detectron2's ResNet (its tools/convert-torchvision-to-d2.py); numbers of stages come after.
_DETECTRON2_RESNET = (
    (r"^(conv1|bn1)\.", r"stem.\1."),
    (r"downsample\.0\.", "shortcut."),
    (r"downsample\.1\.", "shortcut.norm."),
    (r"bn(\d)\.", r"conv\1.norm."),
)


def mmseg_backbone(state: State) -> State:
    """A backbone below `backbone.`; ResNets are named as torchvision's there, too."""
    return {f"backbone.{_replaced(name, _MMSEG_VIT)}": tensor for name, tensor in state.items()}


def mmseg_head(state: State) -> State:
    """A head of `cp2.models.heads`, whose names are mmsegmentation's, below `decode_head.`."""
    return {f"decode_head.{name}": tensor for name, tensor in state.items()}


def detectron2_resnet(state: State) -> State:
    """stem, res2 to res5; batch norms without their counters, which FrozenBatchNorm2d lacks."""
    renamed = {
        re.sub(r"^layer(\d)", lambda at: f"res{int(at[1]) + 1}", name): tensor
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    return {_replaced(name, _DETECTRON2_RESNET): tensor for name, tensor in renamed.items()}


def _replaced(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name

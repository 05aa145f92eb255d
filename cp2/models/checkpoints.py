"""Loading loudly into a model, and writing in MoCo's layout."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from cp2.errors import WrongFile
from cp2.models.backbones import Backbone, TimmBackbone, ViTBackbone, resize_positions
from cp2.models.layouts.pytorch import WrongNames
from cp2.models.readers.torch_files import some
from cp2.models.weights import State, plain
from cp2.record.files import whole_file


def load_backbone(
    backbone: Backbone,
    state: Mapping[str, torch.Tensor],
    source: str | Path,
    metadata: Mapping[str, str] | None = None,
) -> list[str]:
    """Loads every tensor of `state` into the backbone, or nothing at all.

    Args:
        source: named in error texts.
        metadata: of the file; "heads" is compared where present, because the number of attention
            heads of a vision transformer cannot be seen from shapes.
    Returns:
        What was adapted, one line each: BN counters that old files lack, position embeddings of
        another grid, the final norm of a ViT that is used without it.
    Raises:
        WrongFile: a key is missing, unexpected or of another shape, or the head counts differ.
    """
    state = dict(state)
    notes: list[str] = []
    if isinstance(backbone, TimmBackbone) and not any(k.startswith("net.") for k in state):
        state = {backbone.prefix + key: tensor for key, tensor in state.items()}  # a file of timm's
    if isinstance(backbone, ViTBackbone):
        _check_heads(backbone, metadata or {}, source)
        notes += _drop_final_norm(backbone, state) + _fit_positions(backbone, state)
    return notes + _load_strictly(backbone, state, source, "backbone")


def load_head(head: nn.Module, state: Mapping[str, torch.Tensor], source: str | Path) -> list[str]:
    """Loads every tensor of `state` into a head or projection, or nothing; as `load_backbone`."""
    return _load_strictly(head, dict(state), source, "head")


def _check_heads(backbone: ViTBackbone, metadata: Mapping[str, str], source: str | Path) -> None:
    heads = metadata.get("heads", str(backbone.heads))
    if heads != str(backbone.heads):
        raise WrongFile(
            f"{source} was trained with {heads} attention heads, the backbone has "
            f"{backbone.heads}. Correct `heads` in the backbone's YAML file."
        )


def _drop_final_norm(backbone: ViTBackbone, state: State) -> list[str]:
    if isinstance(backbone.norm, nn.LayerNorm):
        return []
    dropped = [key for key in ("norm.weight", "norm.bias") if state.pop(key, None) is not None]
    return [f"dropped {key}: the backbone has no final norm" for key in dropped]


def _fit_positions(backbone: ViTBackbone, state: State) -> list[str]:
    stored = state.get("pos_embed")
    wanted = tuple(backbone.pos_embed.shape)
    if stored is None or stored.ndim != 3 or stored.shape == wanted or stored.shape[2] != wanted[2]:
        return []
    side = round((stored.shape[1] - 1) ** 0.5)
    if side * side != stored.shape[1] - 1:
        return []  # no class token or no square grid: shown as a wrong shape
    state["pos_embed"] = resize_positions(stored, (side, side), backbone.grid)
    return [
        f"resized pos_embed from a grid of {side}x{side} to {'x'.join(map(str, backbone.grid))}"
    ]


def _load_strictly(module: nn.Module, state: State, source: str | Path, what: str) -> list[str]:
    own = module.state_dict()
    counters = [key for key in own if key.endswith("num_batches_tracked") and key not in state]
    state |= {key: torch.zeros_like(own[key]) for key in counters}
    shapes = {
        f"{key} {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    }
    kinds = {
        f"{key} {state[key].dtype}, expected {own[key].dtype}"
        for key in own.keys() & state.keys()
        if own[key].is_floating_point() and not state[key].is_floating_point()
    }
    spoiled = {key for key, tensor in state.items() if not bool(torch.isfinite(tensor).all())}
    problems = {
        "not finite": spoiled,
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "of another shape": shapes,
        "of another type": kinds,
    }
    found = {kind: keys for kind, keys in problems.items() if keys}
    if found:
        lines = [f"{len(keys)} {kind}: {some(keys)}" for kind, keys in found.items()]
        if [*found] == ["not finite"]:
            raise WrongNames(
                f"{source}: {lines[0]}; nothing was loaded. The file is damaged, or its training "
                "diverged: take an earlier one"
            )
        raise WrongNames(
            f"{source} does not fit the {what}; nothing was loaded.\n  "
            + "\n  ".join(lines)
            + "\nGive the file that belongs to this architecture, or correct the settings: layout "
            "in configs/checkpoints.yaml, the backbone and head in configs/models/."
        )
    module.load_state_dict(state)
    return [f"set {len(counters)} num_batches_tracked to 0: the file has none"] if counters else []


def write_moco_checkpoint(
    path: Path,
    encoder: Mapping[str, torch.Tensor],
    queue: torch.Tensor,
    epoch: int,
    arch: str,
) -> None:
    """Writes the container of MoCo's release, for tools that read it. No optimiser inside.

    Args:
        encoder: state dict of the query `GlobalEncoder`.
        queue: (dim, entries), one key a column.
        epoch: the next epoch, i.e. the number of epochs done.
        arch: torchvision's or timm's name of the backbone.
    Raises:
        UserError: the disk is full.
    """
    state: State = {
        f"module.encoder_q.{key.removeprefix('backbone.')}": plain(tensor).cpu()
        for key, tensor in encoder.items()
    }
    state |= {"module.queue": plain(queue).cpu(), "module.queue_ptr": torch.tensor([0])}
    content = {"epoch": epoch, "arch": arch, "state_dict": state}
    # By handle: given a name, torch.save writes it into the file, and equal content would differ.
    with whole_file(path) as temporary, temporary.open("wb") as handle:
        torch.save(content, handle)

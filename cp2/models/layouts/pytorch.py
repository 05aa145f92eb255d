"""Names in files of torch.save -> ours, which are torchvision's and timm's."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from cp2.errors import WrongFile
from cp2.models.readers.torch_files import some
from cp2.models.weights import State, plain

# What DDP, torch.compile, FSDP and DeepSpeed put before the names of what they wrap.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module"}
_QUERY = ("encoder_q.", "base_encoder.")  # the trained encoder of MoCo v1 and v2, and of v3
# Places of a ResNet's parts in nn.Sequential(*resnet.children()) (lightly).
_SEQUENTIAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_CANDIDATES = 100  # prefixes that are tried
_FINAL_NORM = {"norm.weight", "norm.bias"}  # of a ViT, left out where the backbone has none
_CLASSIFIERS = ("fc.", "head.", "classifier.")  # a classifier or MoCo's projection
_HEAD = ("image_pool.", "aspp_modules.", "bottleneck.", "convs.", "conv_cat.")
_PROJECTION = "contrast_conv."


class WrongNames(WrongFile):
    """A file's names or shapes are not those that its settings lead to."""


def unwrapped(name: str) -> str:
    """A name without what wrappers of modules add: module.encoder_q._orig_mod.x -> encoder_q.x."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def unwrap(names: Iterable[str]) -> dict[str, str]:
    """Names without wrappers -> as in the file; as they are where two would become one."""
    names = list(names)
    bare = {unwrapped(name): name for name in names}
    return bare if len(bare) == len(names) else {name: name for name in names}


def from_moco(path: Path, tensors: State, drop: tuple[str, ...] = ()) -> tuple[State, list[str]]:
    """The query encoder's backbone, and the keys that are not in it.

    Raises:
        WrongNames: no key begins as MoCo's do.
    """
    prefix = _query_prefix(tensors)
    if prefix is None:
        raise wrong_layout(path, tensors, "moco", f"keys that begin with {_QUERY[0]}")
    return below(prefix, tensors, drop)


def from_prefixed(
    path: Path, tensors: State, prefix: str, drop: tuple[str, ...] = ()
) -> tuple[State, list[str]]:
    """What lies below a prefix, and the other keys.

    Raises:
        WrongNames: no key begins so.
    """
    state, dropped = below(prefix, tensors, drop)
    if not state:
        raise wrong_layout(path, tensors, "prefixed", f"keys that begin with {prefix}")
    return state, dropped


def from_cp2(path: Path, tensors: State) -> tuple[State, State, State, list[str]]:
    """Backbone, head and projection of the authors' files, and the keys that are in none.

    Their layout is not documented, so all three plausible ones are read: backbone and head keys
    bare in one dict, under backbone. and decode_head., or these under the query encoder's prefix.

    Raises:
        WrongNames: no backbone is found.
    """
    prefix = _query_prefix(tensors) or ""
    inner = "backbone." if any(key.startswith(f"{prefix}backbone.") for key in tensors) else ""
    backbone: State = {}
    head: State = {}
    projection: State = {}
    dropped = []
    for key, tensor in tensors.items():
        name = key.removeprefix(prefix)
        bare = name.removeprefix("decode_head.")
        if not key.startswith(prefix) or bare.startswith("conv_seg."):
            dropped.append(key)
        elif bare.startswith(_PROJECTION):
            projection[bare.removeprefix(_PROJECTION)] = plain(tensor)
        elif bare.startswith(_HEAD):
            head[bare] = plain(tensor)
        elif name.startswith(inner):
            backbone[name.removeprefix(inner)] = plain(tensor)
        else:
            dropped.append(key)
    if not backbone:
        raise wrong_layout(path, tensors, "cp2", "keys such as backbone.conv1.weight")
    return backbone, head, projection, dropped


def wrong_layout(path: Path, tensors: State, layout: str, wanted: str) -> WrongNames:
    """The refusal of a file whose names are others than its layout says."""
    return WrongNames(
        f"{path} is not of layout {layout}: {wanted} are expected, found {some(tensors)}. "
        "Correct `layout` in configs/checkpoints.yaml (see CheckpointSettings for all) or give the "
        "right file."
    )


def below(prefix: str, tensors: State, drop: tuple[str, ...] = ()) -> tuple[State, list[str]]:
    """A backbone's tensors by their names below a prefix, and the other keys.

    Args:
        drop: beginnings of names below the prefix that are left out, beside a classifier's.
    """
    names = _names_below(prefix, tensors, drop)
    used = set(names.values())
    state = {name: plain(tensors[key]) for name, key in names.items()}
    return state, [key for key in tensors if key not in used]


def _names_below(prefix: str, keys: Iterable[str], drop: tuple[str, ...] = ()) -> dict[str, str]:
    """Names of a backbone's tensors -> keys."""
    found = {key.removeprefix(prefix): key for key in keys if key.startswith(prefix)}
    found = {n: key for n, key in found.items() if not n.startswith((*_CLASSIFIERS, *drop))}
    if "0.weight" in found and {name.partition(".")[0] for name in found} <= _SEQUENTIAL.keys():
        return {_SEQUENTIAL[name[0]] + name[1:]: key for name, key in found.items()}
    return found


def ways_to_fit(tensors: State, wanted: State) -> Iterator[str]:
    """Settings of configs/checkpoints.yaml under which a file's tensors would fit a backbone.

    Args:
        tensors: by their names without wrappers.
        wanted: state dict of the backbone.
    """
    first = next(iter(wanted))
    prefixes = [
        key.removesuffix(name)
        for name in dict.fromkeys((first, first.replace("conv1", "0")))
        for key in tensors
        if key == name or key.endswith(f".{name}")
    ]
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]
    for prefix in prefixes[:_CANDIDATES]:
        names = _names_below(prefix, tensors)
        more = {name.partition(".") for name in names.keys() - wanted.keys() - _FINAL_NORM}
        drop = sorted({part + dot for part, dot, _ in more})
        fit = all(n in names and _fits(n, tensors[names[n]], wanted[n]) for n in needed)
        if fit and not any(name.startswith(tuple(drop)) for name in wanted):
            flat = "torchvision" if first == "conv1.weight" else "timm"
            layout = f"prefixed, prefix: {prefix}" if prefix else flat
            yield f"layout: {layout}" + (f", drop: [{', '.join(drop)}]" if drop else "")


def _fits(name: str, found: torch.Tensor, wanted: torch.Tensor) -> bool:
    if name == "pos_embed":  # resized where its grid is another
        return found.shape[::2] == wanted.shape[::2]
    return found.shape == wanted.shape


def _query_prefix(tensors: State) -> str | None:
    return next((p for p in _QUERY if any(key.startswith(p) for key in tensors)), None)

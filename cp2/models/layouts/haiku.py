"""Names of ResNets in Haiku (BYOL, DetCon) -> torchvision's.

Haiku keeps kernels as (height, width, in, out) and batch norm as (1, 1, 1, channels); its running
statistics are the exponential averages' bias-corrected "average".
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cp2.errors import WrongFile
from cp2.models.readers.pickles import Arrays
from cp2.models.readers.torch_files import some
from cp2.models.weights import State

_NAME = re.compile(
    r"(?P<root>.*?)"
    r"(?P<module>initial_(?:conv|batchnorm)"
    r"|block_group_\d+/block_\d+/(?:shortcut_(?:conv|batchnorm)|(?:conv|batchnorm)_\d+))/"
    r"(?P<leaf>w|scale|offset|mean_ema/average|var_ema/average)"
)
_LEAVES = {
    "w": "weight",
    "scale": "weight",
    "offset": "bias",
    "mean_ema/average": "running_mean",
    "var_ema/average": "running_var",
}
_NOT_ONLINE = ("target", "opt_state")  # BYOL's moving average and its optimiser


def from_haiku(path: Path, arrays: Arrays) -> tuple[State, list[str]]:
    """The online network's backbone as a state dict, and the names of all that is not in it.

    Raises:
        WrongFile: no ResNet, or more than one, is in the file.
    """
    roots: dict[str, dict[str, str]] = {}  # before the module's name -> our key -> name
    for name in arrays:
        found = _NAME.fullmatch(re.sub(r"(^|/)~(?=/|$)", "", name).lstrip("/"))
        if found and not any(word in found["root"] for word in _NOT_ONLINE):
            key = f"{_module(found['module'])}.{_LEAVES[found['leaf']]}"
            roots.setdefault(found["root"], {})[key] = name
    weights = [root for root, keys in roots.items() if "conv1.weight" in keys]
    statistics = [root for root, keys in roots.items() if "bn1.running_mean" in keys]
    if len(weights) != 1 or len(statistics) != 1:
        raise WrongFile(
            f"{path} is not of layout haiku: one ResNet's weights and statistics are expected, "
            f"found weights at {weights} and statistics at {statistics}, in {some(arrays)}. Give "
            "the right file, or correct `layout` in configs/checkpoints.yaml."
        )
    names = roots[weights[0]] | roots[statistics[0]]
    state = {key: _tensor(arrays[name], name.endswith("/w")) for key, name in names.items()}
    used = set(names.values())
    return state, [name for name in arrays if name not in used]


_STEM: Mapping[str, str] = {"initial_conv": "conv1", "initial_batchnorm": "bn1"}
_PARTS: Mapping[str, str] = {"shortcut_conv": "downsample.0", "shortcut_batchnorm": "downsample.1"}


def _module(module: str) -> str:
    if module in _STEM:
        return _STEM[module]
    group, block, part = module.split("/")
    place = f"layer{_number(group) + 1}.{_number(block)}."
    if part in _PARTS:
        return place + _PARTS[part]
    kind = "conv" if part.startswith("conv") else "bn"
    return f"{place}{kind}{_number(part) + 1}"


def _number(word: str) -> int:
    return int(word.rpartition("_")[2])


def _tensor(array: Any, kernel: bool) -> torch.Tensor:
    tensor = torch.tensor(array, dtype=torch.float32)
    if kernel and tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1).contiguous()
    return tensor.flatten()

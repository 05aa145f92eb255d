"""Names of SimCLR's ResNets in TensorFlow -> torchvision's.

TensorFlow numbers convolutions in the order of their making: the stem, then block after block, a
block's projection before its three convolutions (google-research/simclr, resnet.py). Which block
begins a stage can be seen from the kernels' sizes: between the 3x3 of one block and that of the
next lie two 1x1, or three where a projection is among them. Batch norms are numbered alike.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch

from cp2.errors import WrongFile
from cp2.models.readers.tensor_bundle import Arrays
from cp2.models.readers.torch_files import some
from cp2.models.weights import State

_KERNEL = re.compile(r"base_model/conv2d(?:_(\d+))?/kernel")
_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def from_simclr(path: Path, arrays: Arrays) -> tuple[State, list[str]]:
    """The backbone as a state dict, and the names of all variables that are not in it.

    Raises:
        WrongFile: the variables are not those of a ResNet with bottleneck blocks.
    """
    numbers = [int(m[1] or 0) for m in map(_KERNEL.fullmatch, arrays) if m]
    last = min(max(numbers, default=0), len(arrays))
    kernels = [_name("conv2d", number, "kernel") for number in range(last + 1)]
    _check_there(path, arrays, kernels)
    places = list(_places([arrays[kernel].shape[0] for kernel in kernels]))
    if len(places) != len(kernels):
        raise _wrong(path, f"{len(kernels)} convolutions whose sizes make no such network")
    names: dict[str, str] = {}
    for number, (conv, norm) in enumerate(places):
        names[f"{conv}.weight"] = _name("conv2d", number, "kernel")
        for theirs, ours in _NORM.items():
            names[f"{norm}.{ours}"] = _name("batch_normalization", number, theirs)
    _check_there(path, arrays, list(names.values()))
    state = {key: _tensor(torch.tensor(arrays[name])) for key, name in names.items()}
    used = set(names.values())
    return state, [name for name in arrays if name not in used]


def _name(kind: str, number: int, leaf: str) -> str:
    return f"base_model/{kind}{f'_{number}' if number else ''}/{leaf}"


def _places(sizes: list[int]) -> Iterator[tuple[str, str]]:
    """Our names of each convolution and its norm; fewer or none if the sizes make no ResNet."""
    if not sizes or sizes[0] != 7:
        return
    yield "conv1", "bn1"
    middles = [i for i, size in enumerate(sizes) if size == 3]
    firsts = [1, *(middle + 2 for middle in middles)]  # of each block, and one past the last
    stage = block = 0
    for first, end in pairwise(firsts):
        kinds = sizes[first:end]
        if kinds == [1, 1, 3, 1]:
            stage, block = stage + 1, 0
            yield f"layer{stage}.0.downsample.0", f"layer{stage}.0.downsample.1"
        elif kinds == [1, 3, 1] and stage:
            block += 1
        else:
            return
        for part in (1, 2, 3):
            yield f"layer{stage}.{block}.conv{part}", f"layer{stage}.{block}.bn{part}"


def _tensor(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.float()
    return tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor


def _check_there(path: Path, arrays: Arrays, names: list[str]) -> None:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise _wrong(path, f"{some(arrays)}; {len(missing)} missing: {some(missing)}")


def _wrong(path: Path, found: str) -> WrongFile:
    return WrongFile(
        f"{path} is not of layout simclr: the convolutions base_model/conv2d, conv2d_1, ... of a "
        "ResNet with bottleneck blocks and a batch_normalization for each are expected, found "
        f"{found}. Give the right file, or correct `layout` in configs/checkpoints.yaml."
    )

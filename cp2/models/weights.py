"""The project's own weight files: safetensors, one file with named parts, whole or not there."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from cp2.data.hashing import digest
from cp2.errors import WrongFile, reading
from cp2.record.files import whole_file
from cp2.record.readers import read_object

State = dict[str, torch.Tensor]


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that does not hold on to a mapped file; half precision becomes float32."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(dtype, copy=True).contiguous()


def save_weights(
    path: Path, parts: Mapping[str, Mapping[str, torch.Tensor] | None], metadata: dict[str, str]
) -> None:
    """Writes state dicts into one file; a part that is None is left out. Equal content gives equal
    bytes.

    Args:
        path: the file; an older one stays whole until the new one is.
        parts: state dict of each part ("backbone", "head", ...); a part's name has no dot.
        metadata: free text by key, such as the run id and the number of attention heads.

    Raises:
        UserError: the disk is full.
    """
    tensors = {
        f"{part}.{key}": tensor.detach().cpu().contiguous()  # safetensors refuses channels_last
        for part, state in parts.items()
        for key, tensor in (state or {}).items()
    }
    # Opened here: safetensors would make a file that only its owner may read.
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.writelines(_ordered(save(tensors, metadata)))


def _ordered(data: bytes) -> tuple[bytes, bytes, memoryview]:
    """A safetensors file with its metadata sorted; the library's order differs at each call."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little"), text, memoryview(data)[start:]


def load_weights(path: Path) -> tuple[dict[str, State], dict[str, str]]:
    """Reads what `save_weights` wrote: state dict of each part on the CPU, and the metadata.

    A finished run's model is held to the hash in the run's done.json.

    Raises:
        WrongFile: the file is missing, truncated, corrupt or was not made by `save_weights`.
    """
    _check_sum(path)
    parts: dict[str, State] = {}
    again = "run the stage that makes it"
    with (
        reading(path, "a whole safetensors file", f"delete it and {again} again", again),
        safe_open(path, framework="pt") as file,
    ):
        metadata = dict(file.metadata() or {})
        for key in file.keys():  # noqa: SIM118 (the file cannot be iterated)
            part, dot, name = key.partition(".")
            if not dot:
                raise WrongFile(
                    f"{path} holds the tensor {key!r}, but names of the form part.name, such "
                    "as backbone.conv1.weight, are expected. It is none of this project's "
                    "weight files; make it with its stage's command."
                )
            parts.setdefault(part, {})[name] = file.get_tensor(key)
    return parts, metadata


def _check_sum(path: Path) -> None:
    try:
        wanted = read_object(path.with_name("done.json")).get("model_sha256")
    except WrongFile:  # not finished, or damaged, which others say
        return
    if path.is_file() and wanted not in (None, digest(path, "sha256")):
        raise WrongFile(
            f"{path}: is not what its run wrote (its SHA-256 is another than in done.json); delete "
            "the run's folder and make it again"
        )

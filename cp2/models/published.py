"""Published model files in, state dicts under our names out."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from cp2.errors import reading
from cp2.models.layouts.haiku import from_haiku
from cp2.models.layouts.pytorch import (
    below,
    from_cp2,
    from_moco,
    from_prefixed,
    unwrap,
    unwrapped,
    ways_to_fit,
)
from cp2.models.layouts.simclr import from_simclr
from cp2.models.readers.pickles import read_numpy_pickle, read_pickle
from cp2.models.readers.tensor_bundle import read_tensor_bundle
from cp2.models.readers.torch_files import MISSING, read_tensors
from cp2.models.weights import State, load_weights
from cp2.settings.checkpoints import NOT_TORCH, Layout


@dataclass(frozen=True)
class PublishedModel:
    """The useful parts of a published file, as float32 tensors on the CPU under our names.

    Attributes:
        head: state dict of the segmentation head, if the file holds one (layouts cp2 and own).
        projection: state dict of CP²'s dense projection, likewise.
        dropped: names in the file that are in none of these.
        metadata: what the file says of itself (layout own).
    """

    path: Path
    backbone: State
    head: State | None = None
    projection: State | None = None
    dropped: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


def read_published(
    path: Path, layout: Layout, prefix: str | None = None, drop: tuple[str, ...] = ()
) -> PublishedModel:
    """Reads a model file.

    Args:
        layout: its container and how its names are laid out, see `CheckpointSettings`.
        prefix: what the backbone's names begin with (layout prefixed).
        drop: beginnings of names that are left out, see `CheckpointSettings`.

    Raises:
        WrongFile: missing, truncated, holding code, or of another layout.
    """
    with reading(
        path, f"a file of layout {layout}", "correct `layout` in configs/checkpoints.yaml", MISSING
    ):
        match layout:
            case "simclr":
                arrays, others = read_tensor_bundle(path)
                backbone, dropped = from_simclr(path, arrays)
            case "haiku-pickle":
                arrays, others = read_pickle(path)
                backbone, dropped = from_haiku(path, arrays)
            case "haiku-numpy":
                arrays, others = read_numpy_pickle(path)
                backbone, dropped = from_haiku(path, arrays)
            case "own":
                return _read_own(path)
            case _:
                return _read_torch(path, layout, prefix, drop)
        return PublishedModel(path, backbone, dropped=others + dropped)


def _read_torch(
    path: Path, layout: Layout, prefix: str | None, drop: tuple[str, ...]
) -> PublishedModel:
    file = read_tensors(path)
    names, begin = unwrap(file.tensors), unwrapped(prefix or "")
    if file.outside and not any(name.startswith(begin) for name in names):  # state_dict_ema.
        file = replace(file, tensors=file.outside)
        names = unwrap(file.tensors)
    tensors = {name: file.tensors[key] for name, key in names.items()}
    head: State = {}
    projection: State = {}
    if layout == "cp2":
        backbone, head, projection, dropped = from_cp2(path, tensors)
    elif layout == "moco":
        backbone, dropped = from_moco(path, tensors, drop)
    elif prefix is not None:
        backbone, dropped = from_prefixed(path, tensors, begin, drop)
    else:
        backbone, dropped = below("", tensors, drop)
    dropped = file.others + [names[name] for name in dropped]
    return PublishedModel(path, backbone, head or None, projection or None, dropped)


def what_would_fit(path: Path, layout: Layout, backbone: State) -> str:
    """A sentence on settings under which a file would fit, to follow an error; "" for none.

    Args:
        backbone: state dict of the backbone that it should fit.
    """
    if layout in NOT_TORCH:
        return ""
    file = read_tensors(path)
    ways = [
        way
        for tensors in (file.tensors, file.outside)
        for way in ways_to_fit({n: tensors[key] for n, key in unwrap(tensors).items()}, backbone)
    ]
    if not ways:
        return ""
    return f"\nThe file would fit with {'; or with '.join(ways)} in configs/checkpoints.yaml."


def _read_own(path: Path) -> PublishedModel:
    parts, metadata = load_weights(path)
    backbone = parts.pop("backbone", {})
    head, projection = parts.pop("head", None), parts.pop("projection", None)
    dropped = [f"{part}.{key}" for part, state in parts.items() for key in state]
    return PublishedModel(path, backbone, head, projection, dropped, metadata)

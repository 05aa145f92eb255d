"""Files of torch.save and safetensors made by others: tensors are read, code is refused and never
executed."""

import io
import mmap
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from cp2.errors import WrongFile, reading

State = dict[str, torch.Tensor]

_SHOWN = 20  # keys of one kind in an error text
_CONTAINERS = ("state_dict", "model")
_MOST = 10  # times the file's size: what its tensors may take, as many can share one storage
_TUPLES = 100_000  # in a pickle; four a tensor. Hashing a million in each other overruns the stack
_CALLS = 100_000  # in a pickle; two a tensor
_NAME = 200  # characters of a global; torch searches a message with it in squared time
_LEVELS = 20  # of containers in each other
_VALUES = 100_000  # a file may hold
_CHARACTERS = 1 << 24  # of the paths of all values
DAMAGED = (
    "nothing in it was executed. It is truncated or of another kind: delete it and download it "
    "again"
)
MISSING = "correct its path or download it"


class _Inert:
    """Stands for what a file may hold beside tensors; nothing of it is made."""

    def __new__(cls, *_: Any) -> "_Inert":
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass


# The arguments of the training (PyContrast, PixPro), a best score in NumPy.
_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_HARMLESS: list[Any] = [(_Inert, name) for name in ("argparse.Namespace", "numpy.dtype", *_SCALARS)]


class Walk:
    """Bounds a walk through containers: many small things in each other can have long paths."""

    def __init__(self) -> None:
        self._values, self._characters = 0, 0

    def meet(self, path: str) -> None:
        self._values += 1
        self._characters += len(path)
        if self._values > _VALUES or self._characters > _CHARACTERS:
            found = f"{_VALUES} values or {_CHARACTERS} characters of their keys"
            raise ValueError(f"more than {found} are in it, or some of them so many times")


@dataclass(frozen=True)
class TorchFile:
    """Tensors by their path in the containers of a file, such as "teacher.backbone.norm.weight".

    They may be mapped from the file: copy what is kept.

    Attributes:
        tensors: of the container at "state_dict" or "model", named without it; all, where there is
            none.
        outside: those that lie elsewhere.
        others: keys beside the container, and paths of what is no tensor.
    """

    tensors: State
    outside: State
    others: list[str]


def read_tensors(path: Path) -> TorchFile:
    """The tensors of a file.

    Raises:
        WrongFile: missing, truncated, damaged, of another kind, holding code or no state dict.
    """
    with reading(path, "a whole file of torch.save or safetensors", DAMAGED, MISSING):
        content = _load(path)
        leaves = dict(_leaves(content, "", set(), Walk()))
        tensors = {key: value for key, value in leaves.items() if _is_plain(value)}
        check_size(path, sum(tensor.nbytes for tensor in tensors.values()))
    if not tensors:
        filled = isinstance(content, Mapping) and content
        found = some(content) if filled else f"a {type(content).__name__}"
        raise WrongFile(
            f"{path} holds no state dict: a dict of tensors is expected, alone or at the key "
            f"state_dict or model. Found {found}. Check that it is the right file."
        )
    others = [key for key in leaves if key not in tensors]
    for container in _CONTAINERS:
        prefix = f"{container}."
        inside = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if inside and isinstance(content.get(container), Mapping):
            beside = [str(key) for key in content if key != container]
            beside += [key.removeprefix(prefix) for key in others if key.startswith(prefix)]
            outside = {k: v for k, v in tensors.items() if not k.startswith(prefix)}
            return TorchFile(inside, outside, beside)
    return TorchFile(tensors, {}, others)


def check_size(path: Path, size: int) -> None:
    """Raise ValueError where what is in a file would take far more bytes than the file has."""
    if size > _MOST * path.stat().st_size:
        raise ValueError(f"its content would take {size} bytes, over {_MOST} times the file's size")


def _leaves(value: Any, path: str, seen: set[int], walk: Walk) -> Iterator[tuple[str, Any]]:
    """What is in mappings of mappings; one that is there twice, or in itself, is told once."""
    walk.meet(path)
    if not isinstance(value, Mapping) or path.count(".") > _LEVELS:
        if path:
            yield path, value
    elif id(value) not in seen:
        seen.add(id(value))
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key), seen, walk)


def _is_plain(value: Any) -> bool:
    """Whether it is a tensor that is all there: not sparse, quantised, nested or without data."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_nested or value.is_complex())
    )


class _Mapped(mmap.mmap):
    """A file's bytes: a read of more than there are takes no more memory than these."""

    def readline(self) -> bytes:
        line = super().readline()
        if not line.endswith(b"\n"):
            raise EOFError("it ends within a line")
        return line


def mapped(path: Path) -> _Mapped:
    """A file to be read by an unpickler, which believes what the file says about lengths."""
    with path.open("rb") as file:
        return _Mapped(file.fileno(), 0, access=mmap.ACCESS_READ)


def _load(path: Path) -> Any:
    with mapped(path) as file:
        if file[8:9] == b"{" and int.from_bytes(file[:8], "little") < len(file):
            return load_file(path)
        if file[:2] == b"PK":
            _check_zip(path)
            return _load_torch(path, path, mmap=True)
        for _ in range(5):  # magic number, protocol, system, content, keys of the storages
            _check_pickle(path, file)
        file.seek(0)
        return _load_torch(path, file)


def _load_torch(path: Path, file: Any, **options: Any) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")  # remarks on the age of the file's format
            # Mapped where the format allows, so that a key encoder and an optimiser that nobody
            # asks for take no memory.
            return torch.load(file, map_location="cpu", weights_only=True, **options)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\w[\w.]*)", str(error))
        if asked:
            raise _refused(path, asked[1]) from error
        raise ValueError("a pickle in it is damaged or not one of tensors") from error


def _check_zip(path: Path) -> None:
    """Stored whole and once: torch.load looks at no checksum, and maps what it believes stored.

    It has a reader of its own: only files are let through that both must understand alike.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        if not stored or sum(m.file_size for m in members) > path.stat().st_size:
            raise ValueError("its records are compressed or overlap")
        if archive.start_dir != _directory_start(path):
            raise ValueError("its end does not say where its list of records is")
        names = [member.filename.casefold() for member in members]  # torch ignores case
        if len(set(names)) < len(names):
            raise ValueError("two of its records have one name")
        bad = archive.testzip()
        if bad is not None:
            raise ValueError(f"wrong checksum of {bad}")
        for member in members:
            if member.filename.casefold().endswith("data.pkl"):
                _check_pickle(path, io.BytesIO(archive.read(member)))


def _directory_start(path: Path) -> int | None:
    """Where the end of a zip says that its directory begins; None where it does not end so.

    An end without a comment, as torch writes it; in large files a 64-bit one stands before it.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 98))
        tail = file.read()
    if tail[-22:-18] != b"PK\5\6":
        return None
    if tail[-42:-38] == b"PK\6\7":
        return int.from_bytes(tail[-50:-42], "little") if tail[:4] == b"PK\6\6" else None
    return int.from_bytes(tail[-6:-2], "little")


def _check_pickle(path: Path, file: Any) -> None:
    """Bounds what torch's unpickler does not bound: nesting, calls, and zeros by number."""
    tuples = calls = 0
    begin = file.tell()
    for code, argument, _ in pickletools.genops(file):
        tuples += code.name.startswith("TUPLE")
        calls += code.name in ("REDUCE", "NEWOBJ", "BUILD")
        name = str(argument) if code.name == "GLOBAL" else ""
        if len(name) > _NAME:
            raise ValueError(f"a name in its pickle has {len(name)} characters")
        if name in ("__builtin__ bytearray", "builtins bytearray"):
            raise _refused(path, "builtins.bytearray")
    for count, most, what in ((tuples, _TUPLES, "tuples"), (calls, _CALLS, "calls")):
        if count > most:
            raise ValueError(f"{count} {what} are in its pickle, {most} at most are allowed")
    size = file.tell() - begin
    file.seek(begin)
    _rehearse(file, size)


def _rehearse(file: Any, size: int) -> None:
    """Take a pickle of so many bytes through without any call: a list that stands in it once may be
    handed to OrderedDict thousands of times, each of which copies it.

    Raises:
        ValueError: calls are handed more values and characters than the pickle has bytes.
    """
    handed = 0

    def take(values: Any, level: int = 0) -> None:
        nonlocal handed
        handed += len(values)
        if handed > size:
            raise ValueError("it hands more to calls, again and again, than it holds")
        for value in values if level < 2 and not isinstance(values, str | bytes) else ():
            if isinstance(value, Sized):
                take(value, level + 1)

    class Called(dict[Any, Any]):
        __hash__ = object.__hash__  # type: ignore[assignment]

        def __new__(cls, *values: Any) -> "Called":
            take(values)
            return super().__new__(cls)

        def __init__(self, *_: Any) -> None:
            super().__init__()

        def __setstate__(self, state: Any) -> None:
            take((state,))

    unpickler: Any = pickle._Unpickler(file)
    unpickler.find_class = lambda *_: Called
    unpickler.persistent_load = lambda _: None
    unpickler.load()


def _refused(path: Path, found: str) -> WrongFile:
    return WrongFile(
        f"{path} was refused, never executed: it asks for the Python object {found}; only tensors "
        "and plain values are allowed. Check that it is the right file; if you trust it, save its "
        "state dict alone: torch.save(model.state_dict(), path)."
    )


def some(keys: Iterable[Any]) -> str:
    """The first keys in order, with a count of the rest, for error texts."""
    names = sorted(str(key) for key in keys)
    rest = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest

"""Pickles of other projects: arrays in plain containers are read, code is never executed.

Nothing is made but plain values and inert records of what a pickle asks for; arrays are made of
these afterwards, as views of bytes that the file holds. So neither a class of NumPy nor its own
unpickling ever sees foreign values. Every other global is refused by its name.
"""

import math
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cp2.errors import WrongFile, reading
from cp2.models.readers.torch_files import DAMAGED, MISSING, Walk, check_size, mapped

Arrays = dict[str, npt.NDArray[np.generic]]

_LEVELS = 100  # of containers in each other

# Classes that stand in BYOL's and DetCon's files, by package and name: the trained state, Haiku's
# immutable dictionaries, the optimiser's states (deepmind-research, byol/utils/optimizers.py).
_RECORDS = {
    ("byol", "_ByolExperimentState"),
    ("byol", "AddWeightDecayState"),
    ("byol", "ScaleByLarsState"),
    ("haiku", "FlatMapping"),
    ("haiku", "frozendict"),
    ("optax", "EmptyState"),
    ("optax", "ScaleState"),
}
# What pickles of arrays ask for; NumPy 2 has renamed its core.
_NUMPY = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ),
    ("_codecs", "encode"),  # how protocol 2 writes bytes
}
# Fields of the named tuple that the trained state is in (deepmind-research, byol_experiment.py).
_FIELDS = {
    "_ByolExperimentState": (
        "online_params",
        "target_params",
        "online_state",
        "target_state",
        "opt_state",
    )
}


class Record:
    """Stands for an object of a foreign class: what it was made of, and nothing of its code."""

    kind: str
    take: ClassVar[Callable[[int], None]]  # is told how many values are copied into each
    content: tuple[Any, ...]
    state: Any

    def __new__(cls, *content: Any) -> "Record":
        cls.take(len(content))
        record = super().__new__(cls)
        record.content, record.state = content, None
        return record


class _Dictionary(dict[Any, Any]):
    """Stands for dict and collections.OrderedDict.

    Raises:
        UnpicklingError: a key is a container. Python overruns its stack on the hash of a tuple in a
            tuple in a tuple ...
    """

    def __init__(self) -> None:  # of no items: many calls could be handed the same ones
        super().__init__()

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str | bytes | int | float | None):
            raise pickle.UnpicklingError("a key is neither text nor a number")
        super().__setitem__(key, value)


def _build(unpickler: Any) -> None:
    state = unpickler.stack.pop()
    if isinstance(unpickler.stack[-1], Record):
        unpickler.stack[-1].state = state


def _make_bytearray(unpickler: Any) -> None:
    size = int.from_bytes(unpickler.read(8), "little")
    unpickler.append(bytearray(unpickler.read(size)))  # the base makes room before it reads


def _make_dictionary(unpickler: Any) -> None:
    items = unpickler.pop_mark()
    made = _Dictionary()
    for key, value in zip(items[::2], items[1::2], strict=True):
        made[key] = value
    unpickler.append(made)


class _Unpickler(pickle._Unpickler):
    """Python's own in Python: the one in C makes room for any number that a file names."""

    refused: str | None = None
    handed = 0
    most: int
    dispatch: ClassVar[dict[int, Any]] = {
        **{
            code: load
            for code, load in pickle._Unpickler.dispatch.items()
            if code not in (pickle.FROZENSET[0], pickle.ADDITEMS[0])
        },
        pickle.BUILD[0]: _build,
        pickle.BYTEARRAY8[0]: _make_bytearray,
        pickle.DICT[0]: _make_dictionary,
        pickle.EMPTY_DICT[0]: lambda unpickler: unpickler.append(_Dictionary()),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _Dictionary
        package = module.partition(".")[0]
        if (module, name) in _NUMPY or (package, name) in _RECORDS:
            return type(name, (Record,), {"kind": name, "take": self._take})
        self.refused = f"{module}.{name}"
        raise pickle.UnpicklingError(self.refused)

    def _take(self, count: int) -> None:
        """One tuple may be handed to calls thousands of times, each of which copies it."""
        self.handed += count
        if self.handed > self.most:
            raise ValueError("it hands more to calls, again and again, than it holds")


def read_pickle(path: Path) -> tuple[Arrays, list[str]]:
    """Every array of a pickle by its path, such as "experiment_state/online_params/x/w".

    Returns:
        The arrays, and the paths of the other values.

    Raises:
        WrongFile: missing, truncated, asking for code, or without arrays.
    """
    with reading(path, "a whole pickle of arrays", DAMAGED, MISSING), mapped(path) as file:
        return _flat(path, _load(path, file))


def read_numpy_pickle(path: Path) -> tuple[Arrays, list[str]]:
    """The same of a .npy file that holds one object (numpy.save of a dictionary).

    Raises:
        WrongFile: as `read_pickle`; also where the file is none of numpy.save.
    """
    with reading(path, "a whole file of numpy.save", DAMAGED, MISSING), mapped(path) as file:
        version = np.lib.format.read_magic(file)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, _, dtype = readers[version](file)
        if not dtype.hasobject or shape != ():
            raise ValueError(f"one object is expected, found {dtype} {shape}")
        return _flat(path, _load(path, file))


def _load(path: Path, file: Any) -> Any:
    unpickler = _Unpickler(file)
    unpickler.most = path.stat().st_size
    try:
        return unpickler.load()
    except Exception:  # a damaged pickle can raise anything
        if unpickler.refused:
            raise WrongFile(
                f"{path} was refused, never executed: it asks for the Python object "
                f"{unpickler.refused}; only arrays and plain values are allowed. Check that it is "
                "the right file; if you trust it, save its arrays alone with numpy.save."
            ) from None
        raise


def _flat(path: Path, content: Any) -> tuple[Arrays, list[str]]:
    arrays: Arrays = {}
    others: list[str] = []
    size = 0
    for place, value in _leaves(content, "", 0, Walk()):
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            arrays[place] = value
            size += value.nbytes
            check_size(path, size)
        else:
            others.append(place)
    if not arrays:
        raise WrongFile(f"{path} holds no arrays. Check that it is the right file.")
    return arrays, others


def _leaves(value: Any, place: str, level: int, walk: Walk) -> Iterator[tuple[str, Any]]:
    if level > _LEVELS:
        raise ValueError("a container in it holds itself, or they are nested without end")
    walk.meet(place)
    value = _made(value)
    if not isinstance(value, dict | list | tuple | Record):
        yield place, value
        return
    for key, inner in _items(value):
        yield from _leaves(inner, f"{place}/{key}" if place else str(key), level + 1, walk)


def _items(value: Any) -> list[tuple[Any, Any]]:
    """What is in a container, by key or number."""
    if isinstance(value, Record):
        names = _FIELDS.get(value.kind)
        if names and len(names) == len(value.content):
            return list(zip(names, value.content, strict=True))
        inner = [part for part in (*value.content, value.state) if part is not None]
        if len(inner) == 1 and inner[0] is not value:  # an immutable dictionary: made of one
            return _items(inner[0])
        return list(enumerate(inner))
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


# ---- records of arrays ----


def _made(value: Any) -> Any:
    """The array that a record of NumPy's stands for; one object, where it holds that alone."""
    if not isinstance(value, Record):
        return value
    match value.kind, value.content, value.state:
        case "_reconstruct", _, (_, shape, dtype, fortran, data):
            if isinstance(data, list):
                return data[0] if shape == () and len(data) == 1 else data
            return _array(data, dtype, shape, "F" if fortran else "C")
        case "_frombuffer", (data, dtype, shape, ("C" | "F") as order), None:
            return _array(data, dtype, shape, order)
        case "scalar" | "encode" | "dtype", _, _:
            return None  # a number or text
        case (("_reconstruct" | "_frombuffer" | "ndarray"), _, _):
            raise ValueError("an array in it is in another form")
    return value


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    if isinstance(data, Record) and data.kind == "encode" and data.content[1:] == ("latin1",):
        data = data.content[0].encode("latin1")
    kind = _dtype(dtype)
    if not isinstance(data, bytes | bytearray) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array in it is in another form")
    if len(data) != kind.itemsize * math.prod(shape):
        raise ValueError(f"an array in it has {len(data)} bytes, not those of {kind} {shape}")
    return np.frombuffer(data, kind).reshape(shape, order=order)


def _dtype(record: Any) -> np.dtype[Any]:
    if not isinstance(record, Record) or record.kind != "dtype" or not record.content:
        raise ValueError("an array in it has no type")
    name, order = record.content[0], record.state[1] if record.state else "|"
    if not (isinstance(name, str) and re.fullmatch(r"[fiu][1248]|b1", name)):
        raise ValueError(f"an array in it is of the type {name!r}; numbers are allowed")
    return np.dtype(f"{order if order in ('<', '>') else '|'}{name}")

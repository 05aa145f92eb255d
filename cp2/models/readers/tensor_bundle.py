"""TensorFlow checkpoints without TensorFlow: variables by name as arrays.

A checkpoint is an index and data shards. The index is a table of LevelDB's kind: a footer points to
a block that points to blocks of sorted key-value pairs. A value is a protocol buffer that says
type, shape, shard and place of one variable. (The formats are described in LevelDB's
table_format.md and TensorFlow's tensor_bundle.proto.) Their own checksums are passed over: the
archive has one of each file.
"""

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cp2.errors import check_method, reading
from cp2.models.readers.torch_files import DAMAGED, MISSING, check_size
from cp2.models.readers.wire import Cursor, Message, read_message

_FOOTER = 48  # bytes
_MAGIC = 0xDB4775248B80FB57
_TRAILER = 5  # bytes after each block: its compression and its checksum
_HEADER_KEY = b""
_LONGEST_KEY = 4096  # bytes; names are stored as what they add to the one before
_TYPES: dict[int, str] = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}

Arrays = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class _Entry:
    """Where a variable lies."""

    name: str
    kind: int  # TensorFlow's number of the type
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int  # bytes


def read_tensor_bundle(path: Path) -> tuple[Arrays, list[str]]:
    """The variables of the checkpoint in a zip archive.

    Args:
        path: an archive with <prefix>.index and <prefix>.data-00000-of-0000N. Where it has several
            (a hub module beside it), the one named model.ckpt-* is read.

    Returns:
        Arrays by variable name, and the names of variables that are no numbers or slices of one.

    Raises:
        WrongFile: missing, no such archive, truncated, or a checksum that is wrong.
    """
    kind = "a whole TensorFlow checkpoint in a zip archive"
    with reading(path, kind, DAMAGED, MISSING), zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        index = _find_index(list(members))
        check_size(path, members[index].file_size)
        shards, entries, others = _read_index(path, _read(archive, members[index]))
        if shards > len(members):
            raise ValueError(f"{shards} shards are expected, {len(members)} files are there")
        prefix = index.removesuffix(".index")
        names = [f"{prefix}.data-{i:05}-of-{shards:05}" for i in range(shards)]
        missing = [name for name in names if name not in members]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        check_size(path, sum(members[name].file_size for name in names))
        check_size(path, sum(entry.size for entry in entries))
        data = [_read(archive, members[name]) for name in names]
        return {entry.name: _read_array(entry, data) for entry in entries}, others


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """As many bytes as it says that it has, by their checksum; `ZipFile.read` unpacks all that
    there are first."""
    check_method(member)
    with archive.open(member) as file:
        return file.read(member.file_size)


def _find_index(names: list[str]) -> str:
    found = [name for name in names if name.endswith(".index")]
    named = [name for name in found if name.rpartition("/")[2].startswith("model.ckpt")]
    if len(found) != 1 and len(named) != 1:
        listing = ", ".join(found) or "none"
        raise ValueError(f"one index of a checkpoint is expected, found {listing}")
    return (named if len(named) == 1 else found)[0]


def _read_index(path: Path, table: bytes) -> tuple[int, list[_Entry], list[str]]:
    """Number of shards, the variables, and the names of what is no plain variable."""
    shards, entries, others, characters = 0, [], [], 0
    for key, value in _pairs(table):
        characters += len(key)
        check_size(path, characters)
        message = read_message(value)
        if key == _HEADER_KEY:
            shards = _check_header(message)
            continue
        entry = _entry(key.decode(), message)
        if entry.kind in _TYPES and not message.messages(7):
            entries.append(entry)
        else:
            others.append(entry.name)
    if not shards:
        raise ValueError("its index has no header")
    return shards, entries, others


def _pairs(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(table) < _FOOTER or int.from_bytes(table[-8:], "little") != _MAGIC:
        raise ValueError("its index does not end as one does")
    footer = Cursor(table[-_FOOTER:])
    footer.varint(), footer.varint()  # the block of meta data, which is empty
    left = len(table)  # blocks that overlap would take any time
    for _, handle in _block_pairs(_block(table, footer.varint(), footer.varint())):
        place = Cursor(handle)
        block = _block(table, place.varint(), place.varint())
        left -= len(block)
        if left < 0:
            raise ValueError("blocks of its index overlap")
        yield from _block_pairs(block)


def _block(table: bytes, offset: int, size: int) -> bytes:
    whole = table[offset : offset + size + _TRAILER]
    if len(whole) != size + _TRAILER:
        raise ValueError("its index is too short")
    if whole[size] != 0:
        raise ValueError("its index is compressed, which TensorFlow's checkpoints are not")
    return whole[:size]


def _block_pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys are stored without the part that they share with the one before."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (1 + restarts)
    cursor, key = Cursor(block), b""
    while cursor.position < end:
        shared, rest, length = cursor.varint(), cursor.varint(), cursor.varint()
        key = key[:shared] + cursor.take(rest)
        if len(key) > _LONGEST_KEY:
            raise ValueError("a name in its index has no end")
        yield key, cursor.take(length)


def _check_header(header: Message) -> int:
    if header.number(2):
        raise ValueError("its numbers are big-endian")
    return header.number(1)


def _entry(name: str, message: Message) -> _Entry:
    shape = read_message(message.content(2) or b"")
    return _Entry(
        name=name,
        kind=message.number(1),
        shape=tuple(read_message(dimension).number(1) for dimension in shape.messages(2)),
        shard=message.number(3),
        offset=message.number(4),
        size=message.number(5),
    )


def _read_array(entry: _Entry, data: list[bytes]) -> npt.NDArray[np.generic]:
    kind = np.dtype(_TYPES[entry.kind])
    if entry.shard >= len(data) or entry.size != kind.itemsize * math.prod(entry.shape):
        raise ValueError(f"the index does not fit together at {entry.name}")
    raw = data[entry.shard][entry.offset : entry.offset + entry.size]
    if len(raw) != entry.size:
        raise ValueError(f"the data end before {entry.name} does")
    return np.frombuffer(raw, kind).reshape(entry.shape)

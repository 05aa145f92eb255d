"""Unpacking tar and zip archives that are not trusted."""

import bz2
import errno
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from tqdm import tqdm

from cp2.data.walk import LeftOut, not_wanted
from cp2.errors import UserError, WrongFile, check_method

Select = Callable[[str], bool]
Entries = Iterator[tuple[str, IO[bytes], int]]  # name, content, size
TIMES = 100  # an archive unpacks to at most so many times its size, and 1 MiB
MIB = 1 << 20
INODE, BLOCK = 256, 4096  # bytes that an empty file takes, and a folder
_READ_AT_ONCE = 64 * MIB  # names and headers are shorter; files are copied in parts
_BAD_NAMES = (None, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # errors of content, not disk
_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


def unpack(
    archive: Path, into: Path, select: Select | None = None, left_out: LeftOut | None = None
) -> None:
    """Unpack a .tar, .tar.gz/.tgz or .zip into the folder `into`.

    The archive's top entries appear in `into` only when all of it has been unpacked. `select` gets
    each file's name and says whether it is wanted. Only plain files are written: owners, modes and
    times are dropped; so are the files that macOS adds to archives, which `left_out` counts.

    Raises:
        WrongFile: the archive is truncated or corrupt, holds a name that is absolute or contains
            `..`, a link or a device, or a top entry that `into` already has, or unpacks to more
            than TIMES its size.
    """
    working = into / f".unpacking-{archive.name}"
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir(parents=True)
    room, folders = _most_bytes(archive), set[PurePosixPath]()
    try:
        entries = _zip_entries if start_of(archive).startswith(b"PK") else _tar_entries
        for name, source, size in tqdm(
            entries(archive, select), desc=f"unpacking {archive.name}", unit="file", disable=None
        ):
            if _of_macos(name):
                if left_out is not None:
                    left_out.add("metadata of macOS", name)
                continue
            new = [folder for folder in PurePosixPath(name).parents if folder not in folders]
            folders.update(new)
            room -= size + INODE + BLOCK * len(new)
            if room < 0:
                raise _bomb(archive)
            _write(archive, name, source, size, working / name)
        for entry in working.iterdir():
            if (into / entry.name).exists():
                raise WrongFile(f"{archive} holds {entry.name}, which another archive held too")
            entry.rename(into / entry.name)
    except UserError:
        raise
    except Exception as error:  # whatever the readers of archives stumble over
        if isinstance(error, OSError) and error.errno not in _BAD_NAMES:
            raise
        raise WrongFile(
            f"{archive} is truncated or corrupt ({error}); delete it and get it again"
        ) from error
    finally:
        shutil.rmtree(working, ignore_errors=True)


def start_of(archive: Path) -> bytes:
    with archive.open("rb") as file:  # `is_zipfile` looks at the end, where a tar may hold a zip
        return file.read(8)


def _most_bytes(archive: Path) -> int:
    return TIMES * archive.stat().st_size + MIB


def _bomb(archive: Path) -> WrongFile:
    return WrongFile(
        f"{archive} unpacks to more than {TIMES} times its size, as no set of images does; nothing "
        "was kept. Get the archive from its official place."
    )


def _of_macos(name: str) -> bool:
    return any(not_wanted(part) == "metadata of macOS" for part in name.split("/"))


class Bounded:
    """What a tar's bytes are read from, compressed or not: never more than the archive may hold."""

    def __init__(self, archive: Path, file: IO[bytes]) -> None:
        self._archive, self._file, self._most = archive, file, _most_bytes(archive)
        self.tell, self.seekable = file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _READ_AT_ONCE or self.tell() > self._most:
            raise _bomb(self._archive)
        return self._file.read(size)

    def seek(self, position: int) -> int:
        if position > self._most:
            raise _bomb(self._archive)
        return self._file.seek(position)


def _write(archive: Path, name: str, source: IO[bytes], size: int, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            shutil.copyfileobj(source, file, MIB)
            written = file.tell()
    except (FileExistsError, NotADirectoryError) as error:
        raise WrongFile(f"{archive} holds {name} twice, or as a file and as a folder") from error
    if written != size:
        raise WrongFile(f"{archive} is truncated: {name} has {written} of {size} bytes")


def _tar_entries(archive: Path, select: Select | None) -> Entries:
    start = start_of(archive)
    opener = next((o for magic, o in _OPENERS.items() if start.startswith(magic)), open)
    with (
        opener(archive, "rb") as file,
        tarfile.open(fileobj=cast(IO[bytes], Bounded(archive, file)), mode="r:") as tar,
    ):
        for member in tar:
            name = plain_name(archive, member.name)
            if member.isdir():
                continue
            if not member.isfile():
                raise WrongFile(f"{archive} holds a link or a device: {name}; refused")
            if select is None or select(name):
                source = tar.extractfile(member)
                assert source is not None  # it is a plain file
                yield name, source, member.size
        check_end(archive, tar)


def check_end(archive: Path, tar: tarfile.TarFile) -> None:
    """Every tar ends in zero blocks; `tarfile` takes a file cut between two members for whole."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    block = tar.fileobj.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0") or len(block) < tarfile.BLOCKSIZE:
        raise WrongFile(f"{archive} is truncated: it has no end mark; delete it and get it again")
    while tar.fileobj.read(MIB):  # up to gzip's own checksum, which stands behind the end mark
        pass


def _zip_entries(archive: Path, select: Select | None) -> Entries:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            name = plain_name(archive, member.filename)
            if member.is_dir():
                continue
            if stat.S_ISLNK(member.external_attr >> 16):
                raise WrongFile(f"{archive} holds a link: {name}; refused")
            if select is None or select(name):
                if member.flag_bits & 0x1:
                    raise UserError(f"{archive} is encrypted; get one that is not")
                check_method(member)
                with content.open(member) as source:
                    yield name, source, member.file_size


def plain_name(archive: Path, name: str) -> str:
    """The name of an entry, without "./"."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name.split("/")[0]:
        raise WrongFile(
            f"{archive} holds the unsafe name {name!r} (absolute, or with ..); nothing was "
            "unpacked. Get the archive from its official place."
        )
    return path.as_posix()

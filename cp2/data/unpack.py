"""Unpacking tar and zip archives that are not trusted."""

import gzip
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from cp2.errors import UserError, WrongFile

Select = Callable[[str], bool]
_CORRUPT = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)


def unpack(archive: Path, into: Path, select: Select | None = None) -> None:
    """Unpack a .tar, .tar.gz/.tgz or .zip into the folder `into`.

    The archive's top entries appear in `into` only when all of it has been unpacked. `select` gets
    each file's name and says whether it is wanted. Only plain files are written: owners, modes and
    times are dropped.

    Raises:
        WrongFile: the archive is truncated or corrupt, holds a name that is absolute or contains
            `..`, a link or a device, or a top entry that `into` already has.
    """
    working = into / f".unpacking-{archive.name}"
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir(parents=True)
    try:
        entries = _zip_entries if _starts_as_zip(archive) else _tar_entries
        for name, source, size in tqdm(
            entries(archive, select), desc=f"unpacking {archive.name}", unit="file", disable=None
        ):
            _write(archive, name, source, size, working / name)
        for entry in working.iterdir():
            if (into / entry.name).exists():
                raise WrongFile(f"{archive} holds {entry.name}, which another archive held too")
            entry.rename(into / entry.name)
    except _CORRUPT as error:
        raise WrongFile(
            f"{archive} is truncated or corrupt ({error}); delete it and get it again"
        ) from error
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _starts_as_zip(archive: Path) -> bool:
    with archive.open("rb") as file:  # `is_zipfile` looks at the end, where a tar may hold a zip
        return file.read(2) == b"PK"


def _write(archive: Path, name: str, source: IO[bytes], size: int, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            written = file.tell()
    except (FileExistsError, NotADirectoryError) as error:
        raise WrongFile(f"{archive} holds {name} twice, or as a file and as a folder") from error
    if written != size:
        raise WrongFile(f"{archive} is truncated: {name} has {written} of {size} bytes")


def _tar_entries(archive: Path, select: Select | None) -> Iterator[tuple[str, IO[bytes], int]]:
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            _check_name(archive, member.name)
            if member.isdir():
                continue
            if not member.isfile():
                raise WrongFile(f"{archive} holds a link or a device: {member.name}; refused")
            if select is None or select(member.name):
                source = tar.extractfile(member)
                assert source is not None  # it is a plain file
                yield member.name, source, member.size
        _check_end(archive, tar)


def _check_end(archive: Path, tar: tarfile.TarFile) -> None:
    """Every tar ends in zero blocks; `tarfile` takes a file cut between two members for whole."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    block = tar.fileobj.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0") or len(block) < tarfile.BLOCKSIZE:
        raise WrongFile(f"{archive} is truncated: it has no end mark; delete it and get it again")
    while tar.fileobj.read(1 << 20):  # up to gzip's own checksum, which stands behind the end mark
        pass


def _zip_entries(archive: Path, select: Select | None) -> Iterator[tuple[str, IO[bytes], int]]:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            _check_name(archive, member.filename)
            if member.is_dir():
                continue
            if stat.S_ISLNK(member.external_attr >> 16):
                raise WrongFile(f"{archive} holds a link: {member.filename}; refused")
            if select is None or select(member.filename):
                if member.flag_bits & 0x1:
                    raise UserError(f"{archive} is encrypted; get one that is not")
                with content.open(member) as source:
                    yield member.filename, source, member.file_size


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name.split("/")[0]:
        raise WrongFile(
            f"{archive} holds the unsafe name {name!r} (absolute, or with ..); nothing was "
            "unpacked. Get the archive from its official place."
        )

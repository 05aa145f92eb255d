"""Images that stay in their archive, a tar or an uncompressed zip, and are read there by offset.

The path of such an image goes on behind its archive's name:
`train.tar/1536+109527/n01440764/10026.JPEG` are the 109,527 bytes from byte 1,536 on. That is all
that a reader needs, in any number of processes.
"""

import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from cp2.data.pillow import image_suffixes
from cp2.data.unpack import check_end, plain_name
from cp2.data.walk import LeftOut, files_below, not_wanted
from cp2.errors import WrongFile, reading

_MEMBER = re.compile(r"(.+?\.(?:tar|zip))/(\d+)\+(\d+)/", re.IGNORECASE)
_HEADER = tarfile.BLOCKSIZE  # bytes before a member in which its header begins
_LOCAL = 30  # bytes of a zip's header before the name; at 26 and 28 how long name and extra are


class Member(NamedTuple):
    """A file in an archive: its name, as unpacking would give it, and its bytes."""

    name: str
    offset: int
    size: int


def images_below(folder: Path, left_out: LeftOut) -> list[Path]:
    """Image files below a folder and images in tars there (shards), sorted; see `files_below`.

    Raises:
        WrongFile: a tar is compressed, cut off or damaged.
    """
    found = files_below(folder, left_out, image_suffixes() | {".tar"})
    paths: list[Path] = []
    for file in found:
        paths += images_in(file, left_out) if file.suffix.lower() == ".tar" else [file]
    return paths


def images_in(archive: Path, left_out: LeftOut, folder: str = "") -> list[Path]:
    """Paths of an archive's images, in the order of their unpacked names.

    The images of a tar within the tar are in a folder of its name, without the suffix.

    Args:
        folder: part of each image's "/name"; others are not wanted.

    Raises:
        WrongFile: the archive is cut off, damaged or compressed.
    """
    with reading(archive, "a whole archive without compression", "unpack it, or get it again"):
        found: dict[PurePosixPath, Member] = {}
        with archive.open("rb") as file:
            tar = archive.suffix.lower() == ".tar"
            members = _of_tar(archive, file, left_out) if tar else _of_zip(archive, file)
            for member in members:
                name = PurePosixPath(member.name)
                reason = next(filter(None, map(not_wanted, name.parts)), None)
                if reason is None and name.suffix.lower() not in image_suffixes():
                    reason = f"suffix {name.suffix.lower() or '(none)'}"
                if folder not in f"/{name}":
                    continue
                if reason:
                    left_out.add(reason, f"{archive}/{name}")
                else:
                    found[name] = member  # of several with one name the last, as unpacking does
    return [
        archive / f"{member.offset}+{member.size}" / name for name, member in sorted(found.items())
    ]


def _of_tar(archive: Path, file: IO[bytes], left_out: LeftOut) -> Iterator[Member]:
    tar = tarfile.TarFile(fileobj=file)
    size = file.seek(0, os.SEEK_END)
    for one in tar:
        name = plain_name(archive, one.name)
        if one.isdir():
            continue
        if one.offset_data + one.size > size:
            raise ValueError(f"{name} is cut off")
        if not one.isreg() or one.issparse():
            left_out.add("links and devices in archives", f"{archive}/{name}")
            continue
        if not name.lower().endswith(".tar"):
            yield Member(name, one.offset_data, one.size)
            continue
        inner = tar.extractfile(one)
        assert inner is not None  # it is a plain file
        for name_in, offset, length in _of_tar(archive, inner, left_out):
            yield Member(f"{name[:-4]}/{name_in}", one.offset_data + offset, length)
    check_end(archive, tar)


def _of_zip(archive: Path, file: IO[bytes]) -> Iterator[Member]:
    for one in zipfile.ZipFile(file).infolist():
        name = plain_name(archive, one.filename)
        if one.is_dir():
            continue
        if one.compress_type != zipfile.ZIP_STORED or one.flag_bits & 1:
            raise ValueError(f"{name} is compressed or encrypted")
        file.seek(one.header_offset)
        header = file.read(_LOCAL)
        behind = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        yield Member(name, one.header_offset + _LOCAL + behind, one.file_size)


def is_member(path: Path) -> bool:
    """Whether it is the path of a file in an archive."""
    return _MEMBER.match(os.fspath(path)) is not None


def read_bytes(path: Path) -> bytes:
    """A file's content, which may lie in an archive.

    Raises:
        WrongFile: the archive is another one than when the data set was prepared.
        OSError: it is missing or cannot be read.
    """
    found = _MEMBER.match(os.fspath(path))
    if found is None:
        return path.read_bytes()
    archive, offset, size = found[1], int(found[2]), int(found[3])
    before = min(offset, _HEADER)
    with Path(archive).open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), before + size, offset - before)
    header, content = data[:before], data[before:]
    if len(content) != size or not _begins(header, path.name, size):
        raise WrongFile(
            f"{archive} has changed since the data set was prepared: {path.name} is not at byte "
            f"{offset}; delete the data set's folder and prepare again"
        )
    return content


def _begins(header: bytes, name: str, size: int) -> bool:
    """Whether a member's header ends there."""
    if header.rfind(b"PK\3\4") >= 0 and os.fsencode(name) in header:
        return True
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").size == size
    except tarfile.HeaderError:
        return False

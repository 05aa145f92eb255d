"""Images that stay in their archive, a tar or an uncompressed zip, and are read there by offset.

The path of such an image goes on behind its archive's name:
`train.tar/1536+109527@1764412345/n01440764/10026.JPEG` are the 109,527 bytes from byte 1,536 on, of
the archive as it was at that time (st_mtime_ns). That is all that a reader needs, in any number of
processes.
"""

import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from stat import S_ISLNK
from typing import IO, NamedTuple, cast

from tqdm import tqdm

from cp2.data.pillow import image_suffixes
from cp2.data.unpack import MIB, Bounded, check_end, plain_name, start_of
from cp2.data.walk import LeftOut, files_below, not_wanted
from cp2.errors import UserError, WrongFile, reading

_MEMBER = re.compile(r"(.+?\.(?:tar|zip))/(\d+)\+(\d+)@(\d+)/", re.IGNORECASE)
_LOCAL = 30  # bytes of a zip's header before the name; at 26 and 28 how long name and extra are


class Member(NamedTuple):
    """A file in an archive: its name, as unpacking would give it, and its bytes.

    Attributes:
        inner: it lies in a tar within the archive.
    """

    name: str
    offset: int
    size: int
    inner: bool = False


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


def images_in(
    archive: Path, left_out: LeftOut, wanted: Callable[[Member], bool] = lambda member: True
) -> list[Path]:
    """Paths of an archive's images, in the order of their unpacked names.

    The images of a tar within the tar are in a folder of its name, without the suffix. Of several
    members of one name the last counts.

    Args:
        archive: its name ends in .tar or .zip.
        wanted: others are not looked at.

    Raises:
        WrongFile: the archive is cut off, damaged or compressed.
    """
    with reading(archive, "a whole archive without compression", "unpack it, or get it again"):
        found: dict[PurePosixPath, Member] = {}
        with archive.open("rb") as file:
            time = os.fstat(file.fileno()).st_mtime_ns
            kind = _of_zip if start_of(archive).startswith(b"PK") else _of_tar
            members = kind(archive, file, left_out)
            bar = tqdm(members, desc=f"indexing {archive.name}", unit="file", disable=None)
            for member in filter(wanted, bar):
                name = PurePosixPath(member.name)
                reason = next(filter(None, map(not_wanted, name.parts)), None)
                if reason is None and name.suffix.lower() not in image_suffixes():
                    reason = f"suffix {name.suffix.lower() or '(none)'}"
                if reason:
                    left_out.add(reason, f"{archive}/{name}")
                else:
                    found[name] = member
    return [
        archive / f"{member.offset}+{member.size}@{time}" / name
        for name, member in sorted(found.items())
    ]


def _named(archive: Path, name: str, left_out: LeftOut) -> str | None:
    try:
        return plain_name(archive, name)
    except WrongFile:
        left_out.add("names in archives that are absolute, or hold .., \\ or a drive", name)
        return None


def _of_tar(archive: Path, file: IO[bytes], left_out: LeftOut) -> Iterator[Member]:
    tar = tarfile.TarFile(fileobj=cast(IO[bytes], Bounded(archive, file)))
    size = file.seek(0, os.SEEK_END)
    for one in tar:
        name = _named(archive, one.name, left_out)
        if one.isdir() or name is None:
            continue
        if not one.isreg() or one.issparse():
            left_out.add("links, devices and sparse files in archives", f"{archive}/{name}")
            continue
        if one.offset_data + one.size > size:
            raise ValueError(f"{name} is cut off")
        if not name.lower().endswith(".tar"):
            yield Member(name, one.offset_data, one.size)
            continue
        inner = tar.extractfile(one)
        assert inner is not None  # it is a plain file
        for name_in, offset, length, _ in _of_tar(archive, inner, left_out):
            yield Member(f"{name[:-4]}/{name_in}", one.offset_data + offset, length, True)
    check_end(archive, tar)
    file.seek(tar.offset)
    while block := file.read(MIB):
        if block.strip(b"\0"):
            raise ValueError("it goes on behind its end mark, as tars that were joined by cat do")


def _of_zip(archive: Path, file: IO[bytes], left_out: LeftOut) -> Iterator[Member]:
    for one in zipfile.ZipFile(file).infolist():
        name = _named(archive, one.filename, left_out)
        if one.is_dir() or name is None:
            continue
        if S_ISLNK(one.external_attr >> 16):
            left_out.add("links, devices and sparse files in archives", f"{archive}/{name}")
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


def changed_archive(paths: Iterable[Path]) -> Path | None:
    """The first archive that is there, but no longer as it was when its files' paths were made."""
    found = {m.group(1, 4) for p in map(os.fspath, paths) if "@" in p and (m := _MEMBER.match(p))}
    for name, time in sorted(found):
        with suppress(OSError):  # `read_bytes` tells of it
            if Path(name).stat().st_mtime_ns != int(time):
                return Path(name)
    return None


def read_bytes(path: Path) -> bytes:
    """A file's content, which may lie in an archive.

    Raises:
        UserError: the archive is not there, or has changed since the data set was prepared; unlike
            a damaged image, it is not done without.
        OSError: it cannot be read.
    """
    found = _MEMBER.match(os.fspath(path))
    if found is None:
        return path.read_bytes()
    archive, (offset, size, time) = Path(found[1]), map(int, found.groups()[1:])
    try:
        with archive.open("rb", buffering=0) as file:
            same = os.fstat(file.fileno()).st_mtime_ns == time
            data = os.pread(file.fileno(), size, offset)
    except FileNotFoundError:
        raise UserError(f"{archive}, which holds {path.name}, is not there; put it back") from None
    if not same or len(data) != size:
        raise UserError(
            f"{archive} has changed since the data set was prepared; start again: the message then "
            "names the folder to delete"
        )
    return data

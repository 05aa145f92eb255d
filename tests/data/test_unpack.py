import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cp2.data.unpack import unpack
from cp2.data.walk import LeftOut
from cp2.errors import UserError, WrongFile

Member = tuple[str, bytes]
MEMBERS = [("top/a.txt", b"a" * 3000), ("top/deep/b.bin", b"b" * 2048), ("other.txt", b"")]


def make_tar(path: Path, members: Sequence[Member] = MEMBERS, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def make_tgz(path: Path, members: Sequence[Member] = MEMBERS) -> Path:
    return make_tar(path, members, "w:gz")


def make_zip(path: Path, members: Sequence[Member] = MEMBERS) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


makers = pytest.mark.parametrize("make", [make_tar, make_tgz, make_zip])
Make = Callable[..., Path]


def below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@makers
def test_all_files_come_out(tmp_path: Path, make: Make) -> None:
    unpack(make(tmp_path / "archive"), tmp_path / "out")
    assert below(tmp_path / "out") == dict(MEMBERS)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["other.txt", "top"]


@makers
def test_names_that_begin_with_the_folder_itself(tmp_path: Path, make: Make) -> None:
    members = [(f"./{name}", content) for name, content in MEMBERS]
    unpack(make(tmp_path / "archive", members), tmp_path / "out", lambda name: name[0] != ".")
    assert below(tmp_path / "out") == dict(MEMBERS)


@makers
def test_select(tmp_path: Path, make: Make) -> None:
    unpack(make(tmp_path / "archive"), tmp_path / "out", lambda name: name.endswith(".bin"))
    assert list(below(tmp_path / "out")) == ["top/deep/b.bin"]


@makers
@pytest.mark.parametrize(
    "name", ["/etc/evil", "../evil", "a/../../evil", "..", "C:/evil", "a\\..\\b"]
)
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, make: Make, name: str) -> None:
    archive = make(tmp_path / "archive", [("good.txt", b"good"), (name, b"evil")])
    with pytest.raises(WrongFile, match="unsafe name") as caught:
        unpack(archive, tmp_path / "out")
    assert str(archive) in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "out"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "../outside"
    with tarfile.open(tmp_path / "archive.tar", "w") as tar:
        tar.addfile(info)
    with pytest.raises(WrongFile, match="a link or a device: link"):
        unpack(tmp_path / "archive.tar", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr(info, "../outside")
    with pytest.raises(WrongFile, match="a link: link"):
        unpack(tmp_path / "archive.zip", tmp_path / "out")


@makers
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_archive(tmp_path: Path, make: Make, share: float) -> None:
    members = [(f"{i}.bin", bytes((i * j) % 251 for j in range(4000))) for i in range(8)]
    archive = make(tmp_path / "archive", members)
    content = archive.read_bytes().rstrip(b"\0")
    archive.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WrongFile, match="truncated"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_tar_cut_between_two_members(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "archive.tar", [("a", b"a" * 512), ("b", b"b" * 512)])
    archive.write_bytes(archive.read_bytes()[:1024])
    with pytest.raises(WrongFile, match="no end mark"):
        unpack(archive, tmp_path / "out")


def test_gzip_with_a_wrong_checksum(tmp_path: Path) -> None:
    archive = make_tgz(tmp_path / "archive.tgz")
    content = bytearray(archive.read_bytes())
    content[-6] ^= 1
    archive.write_bytes(content)
    with pytest.raises(WrongFile, match="corrupt"):
        unpack(archive, tmp_path / "out")


def test_zip_with_a_wrong_checksum(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "archive.zip")
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"aaa", b"aba", 1))
    with pytest.raises(WrongFile, match="corrupt"):
        unpack(archive, tmp_path / "out")


def test_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_text("<html>please log in</html>")
    with pytest.raises(WrongFile, match="truncated or corrupt"):
        unpack(tmp_path / "page.zip", tmp_path / "out")


def test_tar_that_ends_in_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip").read_bytes()
    unpack(make_tar(tmp_path / "archive.tar", [("inner.zip", inner)]), tmp_path / "out")
    assert below(tmp_path / "out") == {"inner.zip": inner}


def test_archives_add_up_but_never_overwrite(tmp_path: Path) -> None:
    unpack(make_tar(tmp_path / "one.tar", [("one/a", b"1")]), tmp_path / "out")
    unpack(make_tar(tmp_path / "two.tar", [("two/a", b"2")]), tmp_path / "out")
    assert below(tmp_path / "out") == {"one/a": b"1", "two/a": b"2"}
    with pytest.raises(WrongFile, match="holds one, which another archive held too"):
        unpack(make_tar(tmp_path / "again.tar", [("one/b", b"3")]), tmp_path / "out")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b")])
def test_name_used_twice(tmp_path: Path, names: tuple[str, str]) -> None:
    archive = make_tar(tmp_path / "archive.tar", [(name, b"x") for name in names])
    with pytest.raises(WrongFile, match="twice"):
        unpack(archive, tmp_path / "out")


def test_leftovers_of_a_killed_run_are_cleared(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "archive.tar")
    leftover = tmp_path / "out" / ".unpacking-archive.tar" / "top" / "a.txt"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    unpack(archive, tmp_path / "out")
    assert below(tmp_path / "out") == dict(MEMBERS)


def test_gzip_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "x.tgz").write_bytes(gzip.compress(b"no tar" * 1000))
    with pytest.raises(UserError, match="corrupt"):
        unpack(tmp_path / "x.tgz", tmp_path / "out")


@makers
def test_files_of_macos_stay_out(tmp_path: Path, make: Make) -> None:
    added = [("top/._a.txt", b"x"), ("__MACOSX/top/._a.txt", b"x"), (".DS_Store", b"x")]
    left_out = LeftOut()
    unpack(make(tmp_path / "archive", [*MEMBERS, *added]), tmp_path / "out", left_out=left_out)
    assert below(tmp_path / "out") == dict(MEMBERS)
    assert left_out.counts == {"metadata of macOS": 3}


def _sparse_tar(path: Path) -> None:
    """GNU's old form: a map of no data at all, and a real size of 8 GB less one byte."""
    header = bytearray(tarfile.TarInfo("a.bin").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[482:483] = b"\0"
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + bytes(1024))


def _zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.bin", bytes(20 << 20))


def _tgz_bomb(path: Path) -> None:
    make_tgz(path, [("a.bin", bytes(20 << 20))])


def _long_name(path: Path) -> None:
    """A name of 20 MB, which `tarfile` reads into memory before anybody sees the entry."""
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 20 << 20
    path.write_bytes(gzip.compress(name.tobuf() + b"n" * name.size + bytes(1024)))


def _folders(path: Path) -> None:
    """45,000 folders in an archive of 2 kB, each of which takes 4 kB of a disk."""
    make_tgz(path, [(f"{n}/" + "a/" * 450 + "f", b"") for n in range(100)])


@pytest.mark.parametrize("make", [_sparse_tar, _zip_bomb, _tgz_bomb, _long_name, _folders])
def test_bombs_stop_at_a_multiple_of_the_archive(tmp_path: Path, make: Make) -> None:
    make(tmp_path / "archive")
    with pytest.raises(WrongFile, match="unpacks to more than 100 times its size"):
        unpack(tmp_path / "archive", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_that_python_unpacks_without_bound_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w", method) as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(WrongFile, match=r"a\.txt is neither stored nor deflated"):
        unpack(tmp_path / "archive", tmp_path / "out")


@makers
def test_name_that_no_file_system_takes(tmp_path: Path, make: Make) -> None:
    with pytest.raises(WrongFile, match="truncated or corrupt"):
        unpack(make(tmp_path / "archive", [("n" * 300, b"x")]), tmp_path / "out")

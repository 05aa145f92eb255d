import os
from pathlib import Path

import pytest
from PIL import Image

from cp2.data.pillow import image_suffixes
from cp2.data.walk import LeftOut, files_below, printable
from cp2.settings.base import same_name


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def walked(root: Path, once: bool = True) -> tuple[list[str], dict[str, int], list[str]]:
    left_out = LeftOut()
    found = files_below(root, left_out, once=once)
    names = [path.relative_to(root).as_posix() for path in found]
    return names, dict(left_out.counts), left_out.notes()


def test_linked_folders_are_entered_and_loops_end(tmp_path: Path) -> None:
    root, store = tmp_path / "set", tmp_path / "store"
    touch(root, "own/a.jpg")
    touch(store, "x/b.jpg", "x/deep/c.jpg")
    (root / "linked").symlink_to(store / "x")
    (root / "again").symlink_to(root / "own")
    (root / "own/up").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    names, counts, notes = walked(root)
    assert names == ["linked/b.jpg", "linked/deep/c.jpg", "own/a.jpg"]
    assert counts == {"folders that another path leads to already": 2, "broken links, devices": 1}
    assert "self" in notes[1]
    names, counts, _ = walked(root, once=False)
    assert "again/a.jpg" in names
    assert "own/a.jpg" in names


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "b.jfif", "c.PpM", "notes.TXT", "more.txt", "bare", "._a.jpg")
    touch(tmp_path, "@eaDir/a.jpg/THUMB_XL.jpg", "@eaDir/b.jpg", ".cache/d.jpg", "__MACOSX/e.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    names, counts, notes = walked(tmp_path)
    assert names == ["a.JPG", "b.jfif", "c.PpM"]
    assert counts == {
        "suffix .txt": 2,
        "suffix (none)": 1,
        "metadata of macOS": 2,
        "thumbnails or deleted files of a file server": 2,
        "hidden": 1,
        "broken links, devices": 1,
    }
    assert f"left out, suffix .txt: 2 ({tmp_path}/more.txt, {tmp_path}/notes.TXT)" in notes


def test_names_that_are_no_text_are_named_in_print(tmp_path: Path) -> None:
    for name in (b"caf\xe9.jpg", b"two\nlines.jpg", "café.jpg".encode(), b"narrow\xe2\x80\xaf.jpg"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    names, counts, notes = walked(tmp_path)
    assert names == ["café.jpg", "narrow\u202f.jpg"]
    assert counts == {
        "the name is not UTF-8 text; rename it": 1,
        "the name holds a line break or another control character; rename it": 1,
    }
    assert r"caf\xe9.jpg" in notes[0]
    assert r"two\nlines.jpg" in notes[1]
    notes[0].encode()


def test_folder_that_cannot_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "open/a.jpg", "shut/b.jpg")
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    names, counts, notes = walked(tmp_path)
    assert names == ["open/a.jpg"]
    assert counts == {"folders that cannot be entered (Permission denied)": 1}
    assert str(tmp_path / "shut") in notes[0]


def test_names_are_compared_composed_and_trimmed() -> None:
    assert same_name(" cafe\u0301 ") == same_name("caf\u00e9")
    assert printable("a\udce9\tb") == r"a\xe9\tb"


def test_every_suffix_is_of_an_allowed_format() -> None:
    Image.init()
    assert {".jpg", ".jfif", ".mpo", ".gif", ".pgm", ".jp2", ".tif"} <= image_suffixes()
    assert not {".eps", ".ps", ".pdf", ".wmf", ".mpg", ".h5"} & image_suffixes()

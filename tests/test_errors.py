"""What is said of files that cannot be read, whichever library tried."""

import os
from pathlib import Path

import pytest

from cp2.errors import UserError, WrongFile, reading


def said_of(path: Path, error: Exception) -> str:
    with pytest.raises(WrongFile) as caught, reading(path, "a map", "draw it", "fetch it"):
        raise error
    assert caught.value.__cause__ is error
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "error", "wanted"),
    [
        (b"x", ValueError("odd\nmore"), "is not a map (odd more); draw it"),
        (b"x", KeyError(), "is not a map (KeyError); draw it"),
        (b"x", ValueError("\x1b[31m"), "is not a map (?[31m); draw it"),
        (b"x", RecursionError(), "is not a map (it is nested too deeply); draw it"),
        (b"x", MemoryError(), "is not a map (it asks for more memory than there is); draw it"),
        (b"x", OSError("truncated"), "is not a map (truncated); draw it"),
        (b"x", OSError(5, "Input/output error"), "cannot be read: Input/output error"),
        (b"", EOFError(), "is empty, must be a map; draw it"),
        (b"\n<!DOCTYPE html><html>", ValueError(), "is a web page, as a link to a download page"),
        (b"version https://git-lfs.github.com/spec/v1\n", ValueError(), "run `git lfs pull`"),
        (None, RuntimeError("open failed"), "is not there; fetch it"),
    ],
)
def test_one_line_names_the_file(
    tmp_path: Path, content: bytes | None, error: Exception, wanted: str
) -> None:
    path = tmp_path / "a.map"
    if content is not None:
        path.write_bytes(content)
    text = said_of(path, error)
    assert text.startswith(f"{path}: ")
    assert wanted in text
    assert "\n" not in text


def test_a_file_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x")

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    text = said_of(tmp_path / "a", RuntimeError("unexpected end of file"))
    assert "may not be read by this user" in text
    assert "draw it" not in text


def test_a_folder_in_its_place_is_said(tmp_path: Path) -> None:
    assert os.strerror(21) in said_of(tmp_path, RuntimeError("open failed"))


def test_what_says_it_better_passes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^better$"), reading(tmp_path, "a map", "draw it"):
        raise UserError("better")

"""Files of a finished run under a second name."""

import os
from pathlib import Path

import pytest

from cp2.errors import UserError
from cp2.record.kept import FOLDER, SUMS, forget, has_content, keep, take_back


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A finished run's."""
    for name in ("model", "done"):
        (tmp_path / name).write_text(name)
    return [tmp_path / "model", tmp_path / "done"]


def test_deleted_files_come_back_newer_than_before(files: list[Path]) -> None:
    for file in files:
        os.utime(file, (1000, 1000))
    keep(files, "a")
    for file in files:
        file.unlink()
    assert take_back(files, "a")
    assert [file.read_text() for file in files] == ["model", "done"]
    assert all(file.stat().st_mtime > 1000 for file in files)


def test_they_take_no_room(files: list[Path]) -> None:
    keep(files, "a")
    assert [file.stat().st_nlink for file in files] == [2, 2]


@pytest.mark.parametrize("wrong", ["digest", "half", "empty", "none", "damaged", "no sums"])
def test_only_all_of_the_same_run_come_back(files: list[Path], wrong: str) -> None:
    if wrong != "none":
        keep(files, "b" if wrong == "digest" else "a")
    kept = files[0].parent / FOLDER / "a" / "model"
    for file in files:
        file.unlink()
    if wrong == "half":
        kept.unlink()
    if wrong in ("empty", "damaged"):  # in place, so under both names
        kept.write_bytes(b"" if wrong == "empty" else b"modem")
    if wrong == "no sums":
        (kept.parent / SUMS).unlink()
    assert not take_back(files, "a")
    assert not any(map(has_content, files))


def test_files_deleted_in_between_are_not_taken_for_finished(files: list[Path]) -> None:
    files[0].unlink()
    with pytest.raises(UserError, match="was deleted while this run was finished"):
        keep(files, "a")
    assert not take_back(files, "a")


def test_without_hard_links_nothing_is_kept(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    keep(files, "a")
    assert not (files[0].parent / FOLDER).exists()


def test_what_is_forgotten_is_gone_and_a_link_is_not_followed(
    files: list[Path], tmp_path: Path
) -> None:
    keep(files, "a")
    forget(tmp_path / FOLDER)
    assert not take_back(files, "a")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / FOLDER).symlink_to(tmp_path / "elsewhere")
    forget(tmp_path / FOLDER)
    assert (tmp_path / "elsewhere").is_dir()
    assert not (tmp_path / FOLDER).exists()

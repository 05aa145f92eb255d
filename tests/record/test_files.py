"""Whole files or none, whatever happens while they are written."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cp2.errors import UserError, WrongFile
from cp2.record.files import (
    UNUSABLE,
    append_to,
    check_writable,
    clear_temporaries,
    disk_is_full,
    parse_json,
    read_json,
    whole_file,
    write_json,
    write_text,
)
from cp2.record.lines import LineWriter, append_line
from cp2.record.lock import hold
from cp2.record.metrics import MetricsWriter


def _write(path: Path, error: BaseException | None) -> None:
    with whole_file(path) as temporary:
        temporary.write_text("half")
        if error:
            raise error


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_appears_whole_and_alone(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with whole_file(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_an_interruption_keeps_the_old_file(error, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(type(error)):
        _write(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_while_writing(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("old")
    with pytest.raises(UserError, match="no space left on the disk; nothing half-") as caught:
        _write(path, OSError(errno.ENOSPC, "No space left on device"))
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_at_the_sync(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(UserError, match="no space left"):
        write_text(tmp_path / "file.txt", "text")
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError):
        _write(tmp_path / "file", PermissionError(errno.EACCES, "no"))
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_no_half_file_under_the_final_name(tmp_path):
    path, ready = tmp_path / "file.txt", tmp_path / "ready"
    path.write_text("old")
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from cp2.record.files import whole_file\n"
        f"with whole_file(Path({str(path)!r})) as temporary:\n"
        "    temporary.write_text('half')\n"
        f"    Path({str(ready)!r}).touch()\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    while not ready.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


def test_full_disks_are_recognised_through_wrappers():
    space, quota = OSError(errno.ENOSPC, "x"), OSError(errno.EDQUOT, "x")
    assert disk_is_full(space)
    assert disk_is_full(quota)
    assert disk_is_full(RuntimeError("write failed: No space left on device (os error 28)"))
    assert not disk_is_full(OSError(errno.EACCES, "x"))
    assert not disk_is_full(None)
    wrapper = RuntimeError("cannot save")
    wrapper.__cause__ = space
    assert disk_is_full(wrapper)


def test_equal_values_give_equal_json_files(tmp_path):
    write_json(tmp_path / "a", {"x": 1, "y": [1.5, None]})
    write_json(tmp_path / "b", {"y": [1.5, None], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"x": 1, "y": [1.5, None]}


def test_a_value_that_is_not_json_writes_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a", {"x": {1, 2}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b'{"a": ', b"\xff\xfe", b"nothing", b"9" * 5000, b"[" * 100_000]
)
def test_unreadable_json(content, tmp_path):
    path = tmp_path / "done.json"
    path.write_bytes(content)
    with pytest.raises(WrongFile, match=r"done\.json: is .* readable JSON.*delete it and make"):
        read_json(path)


def test_missing_json(tmp_path):
    with pytest.raises(WrongFile, match=r"done\.json: is not there; make it with its stage's"):
        read_json(tmp_path / "done.json")


@pytest.mark.parametrize("number", sorted(UNUSABLE))
def test_a_folder_that_cannot_be_written_to_is_told_at_the_start(number, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match="cannot be written to") as caught:
        check_writable(tmp_path / "results")
    assert str(tmp_path / "results") in str(caught.value)
    assert UNUSABLE[number] in str(caught.value)
    assert "--set campaign.execution.results=" in str(caught.value)


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="a file of this name is in the way"):
        check_writable(tmp_path / "results")
    with pytest.raises(UserError, match="a part of the path is a file"):
        check_writable(tmp_path / "results" / "pretrain")


def test_a_good_folder_is_made_and_left_empty(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_killed_writers_temporary_is_cleared_and_nothing_else(tmp_path):
    for name in (".model.safetensors.7.tmp", ".lock", "model.tmp", ".hidden"):
        (tmp_path / name).touch()
    clear_temporaries(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", ".lock", "model.tmp"]
    clear_temporaries(tmp_path / "none")


@pytest.mark.parametrize(("before", "after"), [("", "x\n"), ("a\n", "a\nx\n"), ("a", "a\nx\n")])
def test_an_appended_line_never_continues_a_cut_one(before, after, tmp_path):
    (tmp_path / "log").write_text(before)
    append_line(tmp_path / "log", "x")
    assert (tmp_path / "log").read_text() == after


def test_lines_of_brackets_are_no_json():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)


def _write_log(path: Path) -> None:
    LineWriter(path).write("line")


def _lock(path: Path) -> None:
    with hold(path.parent):
        """Nothing to do."""


@pytest.mark.parametrize(
    ("name", "write"),
    [
        (".lock", _lock),
        ("attempts.jsonl", lambda path: append_line(path, "{}")),
        ("log.txt", _write_log),
        ("data.zip.part", lambda path: append_to(path)),
    ],
)
def test_links_in_the_way_are_refused(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("a key")
    (tmp_path / name).symlink_to(victim)
    with pytest.raises(UserError, match=f"{name}: is a link, through which another"):
        write(tmp_path / name)
    assert victim.read_text() == "a key"


def test_a_whole_file_replaces_links(tmp_path: Path) -> None:
    victim, whole = tmp_path / "victim", tmp_path / "metrics.jsonl"
    victim.write_text("a key")
    whole.symlink_to(victim)
    MetricsWriter(whole).write(1, {})
    assert not whole.is_symlink()
    whole.with_name(f".{whole.name}.{os.getpid()}.tmp").symlink_to(victim)
    write_text(whole, "text")
    assert (victim.read_text(), whole.read_text()) == ("a key", "text")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_something_else_where_a_file_should_be_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "attempts.jsonl"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(UserError, match=r"attempts\.jsonl: is (a folder|neither)"):
        append_line(path, "{}")


@pytest.mark.parametrize("name", ["state", "snapshots", "pictures"])
def test_folders_that_are_links_are_refused_before_the_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"{name}: is a link"), hold(tmp_path):
        """Nothing to do."""

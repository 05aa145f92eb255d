"""Files that grow image by image: saved, continued, moved."""

import errno

import pytest

from cp2.data.derived import AppendedFiles
from cp2.errors import UserError

DATA = [bytes([number]) * 7 for number in range(5)]


def open_files(folder, names=("a", "b"), **layout):
    return AppendedFiles(folder, names, layout or {"version": 1})


def append(files, number, unreadable=0):
    files.append({"a": DATA[number], "b": bytes([number])}, unreadable=unreadable)


def test_writing_goes_on_after_the_last_save(tmp_path):
    state = tmp_path / "state"
    first = open_files(state)
    append(first, 0)
    append(first, 1, unreadable=1)
    first.save()
    append(first, 2, unreadable=1)  # not saved: thrown away
    first.close()
    again = open_files(state)
    assert (again.images, again.unreadable, again.sizes) == (2, 1, {"a": 14, "b": 2})
    for number in (2, 3, 4):
        append(again, number)
    again.save()
    again.close()
    again.move(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"".join(DATA)
    assert (tmp_path / "b").read_bytes() == bytes(range(5))
    assert list(state.iterdir()) == []


@pytest.mark.parametrize(
    "damage", ["short", "gone", "layout", "names", "old count", "list", "text"]
)
def test_what_does_not_belong_together_counts_nothing(tmp_path, damage):
    first = open_files(tmp_path)
    append(first, 0)
    first.save()
    first.close()
    names, layout = ("a", "b"), {"version": 1}
    match damage:
        case "short":
            (tmp_path / "a").write_bytes(b"123")
        case "gone":
            (tmp_path / "b").unlink()
        case "layout":
            layout = {"version": 2}
        case "names":
            names = ("a",)
        case "old count":
            (tmp_path / "count.json").write_text('{"images": 1, "size": 7, "version": 1}')
        case "list":
            (tmp_path / "count.json").write_text("[1]")
        case "text":
            count = tmp_path / "count.json"
            count.write_text(count.read_text().replace('"images": 1', '"images": "one"'))
    again = open_files(tmp_path, names, **layout)
    again.close()
    assert again.images == 0
    assert (tmp_path / "a").read_bytes() == b""


@pytest.mark.parametrize(("minutes", "kept"), [(60, 0), (0, 1)])
def test_saves_come_when_they_are_due(tmp_path, minutes, kept):
    files = open_files(tmp_path)
    append(files, 0)
    files.save_if_due(minutes)
    files.close()
    again = open_files(tmp_path)
    again.close()
    assert again.images == kept


def test_a_full_disk_says_how_far_it_is(tmp_path, monkeypatch):
    files = open_files(tmp_path)
    append(files, 0)
    files.save()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    append(files, 1)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"no space left on the disk after 2 images .*last save"):
        files.save()
    monkeypatch.undo()
    files.close()
    again = open_files(tmp_path)
    again.close()
    assert again.images == 1

"""Reading on from a position gives what reading all at once gives, whatever was cut where."""

import json
from pathlib import Path

import pytest

from cp2.record.tail import START, LogPosition, NewLines, read_new_lines


def _line(step: int, time: float = 0.0) -> str:
    return json.dumps({"step": step, "time": time + step, "loss": step / 3, "ü": 1}) + "\n"


def _steps(new: NewLines) -> list[int]:
    return [line.values["step"] for line in new.lines]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def _read(path: Path, position: LogPosition = START) -> tuple[list[int], LogPosition]:
    """Steps of the new lines, and the position after them."""
    new = read_new_lines(path, position)
    assert not new.restarted
    return _steps(new), new.lines[-1].end if new.lines else position


def test_no_file_has_no_new_lines(path: Path) -> None:
    assert read_new_lines(path) == NewLines([])


def test_every_cut_of_the_file_gives_each_line_once(path: Path) -> None:
    content = "".join(map(_line, range(1, 6))).encode()
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        first, position = _read(path)
        path.write_bytes(content)
        second, position = _read(path, position)
        assert first + second == [1, 2, 3, 4, 5], cut
        assert position[:3] == (1.0, 5, len(content))


def test_what_was_read_is_not_read_again(path: Path) -> None:
    path.write_text(_line(1) + _line(2))
    _, position = _read(path)
    content = path.read_bytes()
    path.write_bytes(b"#" + content[1:] + _line(3).encode())  # damage before the position's line
    assert _read(path, position)[0] == [3]


def test_without_an_offset_all_is_read_and_steps_decide(path: Path) -> None:
    path.write_text("".join(map(_line, range(1, 6))))
    assert _read(path, LogPosition(1.0, 3))[0] == [4, 5]


def test_a_resume_drops_lines_and_writes_them_again(path: Path) -> None:
    path.write_text("".join(map(_line, range(1, 6))))
    _, position = _read(path)
    kept = _line(1) + _line(2)
    path.write_text(kept)
    assert _read(path, position)[0] == []
    path.write_text(kept + "".join(_line(step, 100.0) for step in range(3, 8)))
    assert _read(path, position)[0] == [6, 7]


def test_another_training_is_told(path: Path) -> None:
    path.write_text(_line(1) + _line(2))
    _, position = _read(path)
    path.write_text("")
    assert _read(path, position)[0] == []
    path.write_text(_line(1, 50.0))
    new = read_new_lines(path, position)
    assert (_steps(new), new.restarted) == ([1], True)
    assert new.lines[0].end.step == 1


@pytest.mark.parametrize(
    "garbage",
    [
        "{",
        "",
        "[1]",
        "null",
        '{"step": "3", "time": 1}',
        '{"step": true, "time": 1}',
        '{"step": -1, "time": 1}',
        '{"step": 3}',
        '{"step": 3, "time": NaN}',
        "\x00\x00",
    ],
)
def test_lines_that_are_no_metrics_are_left_out_and_told(path: Path, garbage: str) -> None:
    path.write_text(_line(1) + garbage + "\n" + _line(2) + garbage + "\n")
    new = read_new_lines(path)
    assert _steps(new) == [1, 2]
    assert new.problem == (f"{path}: 2 damaged lines passed over" if garbage else None)
    with path.open("a") as file:
        file.write(_line(3))
    assert _read(path, new.lines[-1].end)[0] == [3]


def test_bytes_that_are_no_text(path: Path) -> None:
    path.write_bytes(_line(1).encode() + b"\xff\xfe\n" + _line(2).encode())
    assert _read(path)[0] == [1, 2]

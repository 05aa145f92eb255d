"""metrics.jsonl after resumes, kills and full disks."""

import errno
import json
import math

import pytest

from cp2.errors import UserError
from cp2.record import lines
from cp2.record.lines import last_lines
from cp2.record.metrics import MetricsWriter, read_metrics
from cp2.record.tail import last_metrics


def _steps(path):
    return [line["step"] for line in read_metrics(path)]


def test_lines_as_written(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    writer = MetricsWriter(path)
    writer.write(1, {"loss": 0.5, "lr": 1e-3})
    writer.write(2, {"loss": math.nan, "lr": math.inf})
    first, second = read_metrics(path)
    assert (first["step"], first["loss"], first["lr"]) == (1, 0.5, 1e-3)
    assert second["loss"] is None
    assert second["lr"] is None
    assert first["time"] <= second["time"]
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # no NaN: other readers refuse it


@pytest.mark.parametrize("resume_step", [0, 2, 3, 9])
def test_a_resume_drops_what_came_after_the_saved_step(resume_step, tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    for step in (1, 2, 3, 4):
        writer.write(step, {"loss": step})
    resumed = MetricsWriter(path, resume_step)
    kept = [step for step in (1, 2, 3, 4) if step <= resume_step]
    assert _steps(path) == kept
    resumed.write(resume_step + 1, {"loss": 0})
    assert _steps(path) == [*kept, resume_step + 1]


def test_a_line_cut_off_by_a_kill_is_left_out_and_written_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsWriter(path).write(1, {"loss": 1})
    whole = path.read_text()
    path.write_text(whole + '{"step": 2, "lo')
    assert _steps(path) == [1]
    MetricsWriter(path, resume_step=1).write(2, {"loss": 2})
    assert _steps(path) == [1, 2]
    assert path.read_text().startswith(whole)
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("line", ["3", "[]", '{"step": "x"}', "{}", "null", ""])
def test_lines_that_are_no_metrics_are_left_out(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{line}\n{{"step": 1}}\n')
    assert _steps(path) == [1]


def test_no_file_has_no_lines(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


@pytest.fixture
def disk(monkeypatch):
    """disk["full"] = True: no line finds room."""
    state = {"full": False}
    append = lines._append

    def append_if_room(path, content):
        if state["full"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(path, content)

    monkeypatch.setattr(lines, "_append", append_if_room)
    return state


def test_on_a_full_disk_lines_wait_and_come_once_each(tmp_path, disk, capsys):
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    for step in range(1, 8):
        disk["full"] = step in (2, 3, 6)
        writer.write(step, {"loss": step})
        if step == 3:
            assert _steps(writer.path) == [1]
    assert _steps(writer.path) == list(range(1, 8))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2, "once each time that it is full"
    assert "metrics.jsonl: no space left on the disk; lines wait in memory" in said[0]


def test_a_disk_that_stays_full_is_an_error_at_the_end(tmp_path, disk):
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    disk["full"] = True
    writer.write(1, {"loss": 1})
    with pytest.raises(UserError, match=r"metrics\.jsonl: no space left on the disk"):
        writer.flush()
    disk["full"] = False
    writer.flush()
    assert _steps(writer.path) == [1]


def test_another_error_is_not_taken_for_a_full_disk(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match="is a folder, must be a file"):
        lines.LineWriter(tmp_path / "metrics.jsonl").write("x")


def _line(step, **values):
    return json.dumps({"step": step, "time": 1.0, **values})


@pytest.mark.parametrize("count", [0, 1, 2, 100, 5000])
def test_the_last_line_is_that_of_reading_the_whole_file(tmp_path, count):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(_line(step, loss=0.25) + "\n" for step in range(1, count + 1)))
    whole = read_metrics(path)
    assert last_metrics(path) == (whole[-1] if whole else None)


@pytest.mark.parametrize("size", [16383, 16384, 16385, 40000])
def test_lines_around_the_block_are_whole(tmp_path, size):
    path = tmp_path / "file"
    path.write_text("first\n" + "x" * (size - 12) + "\n" + "last\n")
    assert path.stat().st_size == size
    expected = path.read_text().splitlines()
    found = last_lines(path)
    assert found == expected[len(expected) - len(found) :]
    assert found[-1] == "last"


@pytest.mark.parametrize(
    "end",
    [
        '{"step": 9, "ti',
        "not json\n",
        "[1, 2]\n",
        '{"step": "9"}\n',
        '{"step": true}\n',
        '{"step": -1}\n',
        "\x00\x00\x00\n",
        "\n\n",
    ],
)
def test_what_is_no_line_of_metrics_is_passed_over(tmp_path, end):
    path = tmp_path / "metrics.jsonl"
    path.write_text(_line(7) + "\n" + end)
    assert last_metrics(path)["step"] == 7


def test_bytes_that_are_no_text_do_no_harm(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(_line(7).encode() + b"\n\xff\xfe\n")
    assert last_metrics(path)["step"] == 7


def test_no_file_and_a_folder_have_no_lines(tmp_path):
    assert last_metrics(tmp_path / "none.jsonl") is None
    assert last_lines(tmp_path) == []

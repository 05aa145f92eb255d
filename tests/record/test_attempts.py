"""attempts.jsonl: what each attempt at a run was and how it ended."""

import json
import os
from pathlib import Path

import pytest

from cp2.errors import UserError
from cp2.record import attempts
from cp2.record.attempts import FILE, last_line, read_attempts, recorded
from cp2.record.folder import RunFolder
from cp2.record.metrics import MetricsWriter
from cp2.record.owner import Owner, read_owner


class SavedError(Exception):
    """As the loops raise it."""

    step = 7


def _attempt(folder: Path, error: BaseException | None = None) -> None:
    with recorded(folder, "cpu", 2, saved=SavedError):
        if error:
            raise error


def test_a_done_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with recorded(tmp_path, "Some GPU", processes=4):
        (running,) = read_attempts(tmp_path)
        assert running.outcome is None
        assert running.ended is None
        RunFolder(tmp_path).finish({"steps": 30})
    (found,) = read_attempts(tmp_path)
    assert (found.number, found.job, found.pid) == (1, "17", os.getpid())
    assert (found.device, found.processes) == ("Some GPU", 4)
    assert (found.outcome, found.step, found.error) == ("done", 30, None)
    assert found.ended is not None
    assert found.ended >= found.started
    assert RunFolder(tmp_path).attempts == tmp_path / FILE


def test_the_lines_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    _attempt(tmp_path)
    started, ended = map(json.loads, (tmp_path / FILE).read_text().splitlines())
    assert started.keys() == {
        *("event", "attempt", "time", "host", "pid", "job", "device", "processes")
    }
    assert ended.keys() == {"event", "attempt", "time", "outcome", "step", "error"}
    assert (started["event"], ended["event"], started["job"]) == ("started", "ended", None)


def test_saved_failed_and_killed_attempts_in_their_order(tmp_path: Path) -> None:
    with pytest.raises(SavedError):
        _attempt(tmp_path, SavedError("saved at step 7"))
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text())
    killed = {"event": "started", "attempt": 2, "time": 1, "host": "a", "pid": 3, "job": None}
    attempts.append_line(tmp_path / FILE, json.dumps(killed | {"device": "cpu", "processes": 1}))
    MetricsWriter(tmp_path / "metrics.jsonl").write(9, {"loss": 1})
    with pytest.raises(UserError):
        _attempt(tmp_path, UserError("first line\nthe last line\n"))
    found = read_attempts(tmp_path)
    assert [(a.number, a.outcome, a.step, a.error) for a in found] == [
        (1, "saved", 7, "SavedError: saved at step 7"),
        (2, None, None, None),
        (3, "failed", 9, "the last line"),
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), RuntimeError("a\nb")])
def test_whatever_ends_an_attempt_is_recorded_and_goes_on(
    tmp_path: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        _attempt(tmp_path, error)
    interrupted = isinstance(error, KeyboardInterrupt)
    assert read_attempts(tmp_path)[0].outcome == ("saved" if interrupted else "failed")


def test_error_texts() -> None:
    assert last_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert last_line(RuntimeError("a\nb\n")) == "RuntimeError: b"
    assert last_line(UserError("only this")) == "only this"
    assert len(last_line(UserError("x" * 10_000))) == attempts.ERROR_LENGTH


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_cut_last_line_costs_only_itself(tmp_path: Path, cut: int) -> None:
    _attempt(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:-cut])
    (found,) = read_attempts(tmp_path)
    assert found.outcome == ("done" if cut == 1 else None)
    _attempt(tmp_path)
    assert [a.number for a in read_attempts(tmp_path)] == [1, 2]
    assert read_attempts(tmp_path)[1].outcome == "done"


@pytest.mark.parametrize("time", ["Infinity", "NaN", "-1", "1e300", '"now"', "[" * 100_000])
def test_lines_that_no_attempt_wrote_are_passed_over(tmp_path: Path, time: str) -> None:
    _attempt(tmp_path)
    started = (tmp_path / FILE).read_text().splitlines()[0]
    stamp = json.dumps(json.loads(started)["time"])
    with (tmp_path / FILE).open("a") as file:
        file.write(started.replace('"attempt": 1', '"attempt": 2').replace(stamp, time) + "\n")
    assert [attempt.number for attempt in read_attempts(tmp_path)] == [1]


@pytest.mark.parametrize("pid", ["Infinity", "1e999", "-1", "0", "99999999999999999999", '"x"'])
def test_a_lock_with_an_impossible_process_names_nobody(tmp_path: Path, pid: str) -> None:
    content = f'{{"job": null, "host": "h", "token": "t", "pid": {pid}}}'
    (tmp_path / ".lock").write_text(content)
    assert read_owner(tmp_path / ".lock") == Owner()


def test_attempts_that_may_not_be_read_are_none(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert read_attempts(tmp_path) == []

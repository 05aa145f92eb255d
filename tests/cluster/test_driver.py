"""What a killed Snakemake leaves: locks, and jobs in the queue."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from cp2.cluster import driver
from cp2.cluster.commands import this_user
from cp2.cluster.driver import (
    adopt_left_jobs,
    end_left_jobs,
    give_up_on_final_errors,
    hold_folder,
    parse_left_jobs,
)
from cp2.errors import PassingError, UserError, WrongFile
from cp2.record.attempts import recorded
from cp2.record.folder import RunFolder

HOLDER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from cp2.cluster.driver import hold_folder
held = hold_folder(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A .snakemake with the locks of one workflow."""
    locks = tmp_path / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    for name in ("0.input.lock", "0.output.lock"):
        (locks / name).write_text("results/x\n")
    return tmp_path / ".snakemake"


def _locks(folder: Path) -> int:
    return len(list((folder / "locks").iterdir()))


def _other(folder: Path) -> "subprocess.Popen[str]":
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


def test_a_dead_drivers_locks_are_removed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _other(folder) as other:
        other.kill()
    for number in (1, 2):
        (folder / "locks" / f"{number}.lock").touch()
    held = hold_folder(folder)
    assert held is not None
    held.close()
    assert _locks(folder) == 0
    captured = capsys.readouterr()
    assert "a killed Snakemake left its locks here" in captured.err
    assert captured.out == "", "the output of --dag stays a graph"


def test_a_living_drivers_locks_stay(folder: Path) -> None:
    with _other(folder) as other:
        for name in ("0.input.lock", "0.output.lock"):
            (folder / "locks" / name).touch()
        held = hold_folder(folder)
        assert _locks(folder) == 2
        other.kill()
    other.wait()
    assert held is not None
    held.close()


def test_a_driver_of_another_host_may_live(folder: Path) -> None:
    (folder / "driver").write_text("another-host 17\n")
    held = hold_folder(folder)
    assert held is not None
    held.close()
    assert _locks(folder) == 2


def test_another_hosts_mark_goes_with_its_locks(folder: Path) -> None:
    (folder / "driver").write_text("another-host 17\n")
    for lock in (folder / "locks").iterdir():
        lock.unlink()  # its driver ended well, or the user unlocked
    held = hold_folder(folder)
    assert held is not None
    held.close()
    assert "another-host" not in (folder / "driver").read_text()


def test_left_jobs_are_known_by_folder_and_run() -> None:
    lines = [
        "7|/here|rule_pretrain_wildcards_run-1",
        "8|/here|rule_pretrain_wildcards_run-10",  # another campaign's
        "9|/there|rule_pretrain_wildcards_run-1",
        "10|/here|run-1",
        "11|/here|",
        "12|/here|rule_all",
        "13",
    ]
    assert parse_left_jobs(lines, Path("/here"), {"run-1"}) == {"7": "run-1"}


def _fake_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
    """squeue names one job, until scancel."""
    folder.mkdir()
    mark = folder / "cancelled"
    gone = f"[ -e {mark} ] || " if ends else ""
    comment = f"7|{Path.cwd()}|rule_pretrain_wildcards_run-1"
    (folder / "squeue").write_text(f"#!/bin/sh\n{gone}echo '{comment}'\n")
    (folder / "scancel").write_text(f'#!/bin/sh\necho "$@" > {mark}\n')
    for name in ("squeue", "scancel"):
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_left_jobs_are_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_slurm(tmp_path / "bin", monkeypatch, ends=True)
    assert end_left_jobs({"run-2": RunFolder(tmp_path)}) == []
    assert end_left_jobs({"run-1": RunFolder(tmp_path)}) == ["7"]
    assert (tmp_path / "bin" / "cancelled").read_text() == "7\n"


class _Job:
    """As much of a job of Snakemake as is looked at."""

    def __init__(self, **wildcards: str) -> None:
        self.wildcards = SimpleNamespace(**wildcards)
        self.registered: list[str] = []

    def register(self, external_jobid: str) -> None:
        self.registered.append(external_jobid)


def test_left_jobs_are_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_slurm(tmp_path / "bin", monkeypatch, ends=False)
    mine, other, table = _Job(run="run-1"), _Job(run="run-2"), _Job()
    assert adopt_left_jobs([mine, other, table]) == ["7"]
    assert (mine.registered, other.registered, table.registered) == (["7"], [], [])
    assert not (tmp_path / "bin" / "cancelled").exists()


def test_left_jobs_that_do_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_slurm(tmp_path / "bin", monkeypatch, ends=False)
    monkeypatch.setattr(driver, "WAIT_SECONDS", 0.0)
    with pytest.raises(UserError, match=r"jobs 7 of a killed Snakemake do not end; see `squeue"):
        end_left_jobs({"run-1": RunFolder(tmp_path)})


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (UserError("batch_size is too large"), False),
        (WrongFile("x.jpg is cut off"), False),
        (PassingError("no GPU on this node"), True),
        (RuntimeError("CUDA error"), True),
        (KeyboardInterrupt(), True),
        (None, True),  # killed: no word
    ],
)
def test_snakemake_tries_again_what_may_pass(
    tmp_path: Path, error: BaseException | None, retried: bool
) -> None:
    job = Mock(attempt=1, restart_times=10, wildcards=SimpleNamespace(run="a-1"))
    job.rule.name = "pretrain"
    handled = []
    scheduler = SimpleNamespace(_handle_error=lambda job, **_: handled.append(job.attempt))
    plan: Any = SimpleNamespace(results=str(tmp_path))
    folder = tmp_path / "pretrain/a-1"
    folder.mkdir(parents=True)
    with suppress(UserError), recorded(folder, "cpu"):
        raise UserError("of an earlier Snakemake")
    time.sleep(0.002)  # records are exact to a millisecond
    give_up_on_final_errors(plan, SimpleNamespace(scheduler=scheduler))
    if error:
        with suppress(type(error)), recorded(folder, "cpu"):
            raise error
    scheduler._handle_error(job, postprocess_job=False)
    assert handled == [1 if retried else 11]


def test_a_user_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert this_user() == str(os.getuid())


def test_without_slurm_no_jobs_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert end_left_jobs({"run-1": RunFolder(Path("run-1"))}) == []

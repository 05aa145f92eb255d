"""The scheduler's end of a job: from the environment, from squeue, and with clocks that differ."""

import os
import sys
import time
from pathlib import Path

import pytest

from cp2.cluster import commands
from cp2.training import scheduler
from cp2.training.scheduler import time_left

HOUR = 3600.0


@pytest.fixture(autouse=True)
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME", "SLURM_TIME_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "17")


def _environment(monkeypatch: pytest.MonkeyPatch, start: float | None, end: float) -> None:
    if start is not None:
        monkeypatch.setenv("SLURM_JOB_START_TIME", str(round(start)))
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(round(end)))


def _proc(folder: Path, age: float, job: str = "17") -> Path:
    """A machine that is up for a day, with a job's processes on it."""
    tick = os.sysconf("SC_CLK_TCK")

    def process(number: int, command: str, seconds: float) -> None:
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "cmdline").write_bytes(command.encode() + b"\0")
        ticks = int((86400 - seconds) * tick)
        fields = " ".join(["S", *["0"] * 18, str(ticks), "0"])
        (folder / str(number) / "stat").write_text(f"{number} (slurm (stepd) {fields}\n")

    process(100, f"slurmstepd: [{job}.batch]", age)
    process(101, f"slurmstepd: [{job}.0]", age / 2)
    process(102, f"slurmstepd: [{job}9.extern]", 5 * age)
    process(103, "python -m cp2 pretrain x", 7 * age)
    (folder / "uptime").write_text("86400.00 1.0\n")
    (folder / "104").mkdir()  # has ended since
    return folder


def _use(monkeypatch: pytest.MonkeyPatch, proc: Path) -> None:
    age = scheduler._job_age
    monkeypatch.setattr(scheduler, "_job_age", lambda job: age(job, proc))


def _squeue(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """A squeue of our own, the only program on PATH."""
    file = folder / "squeue"
    file.write_text(f"#!{sys.executable}\nimport os, sys, time\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_outside_of_slurm_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID")
    assert time_left() == scheduler.TimeLeft(None)


@pytest.mark.parametrize("with_start", [True, False])
def test_the_end_from_the_environment(monkeypatch: pytest.MonkeyPatch, with_start: bool) -> None:
    now = time.time()
    _environment(monkeypatch, now - 600 if with_start else None, now + HOUR)
    found = time_left()
    assert found.seconds == pytest.approx(HOUR, abs=10)
    assert found.note is None


@pytest.mark.parametrize("skew", [-HOUR, -3 * HOUR, HOUR, 3 * HOUR])
def test_clocks_that_differ_by_hours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, skew: float
) -> None:
    there = time.time() + skew  # the scheduler's now; the job has 4 hours and is 10 minutes old
    _environment(monkeypatch, there - 600, there - 600 + 4 * HOUR)
    _use(monkeypatch, _proc(tmp_path, age=600))
    found = time_left()
    assert found.seconds == pytest.approx(4 * HOUR - 600, abs=10)
    assert found.note is not None
    assert f"differ by {abs(skew) / 60:.0f} minutes" in found.note
    assert "limit of 240 minutes" in found.note


@pytest.mark.parametrize("skew", [-20.0, -100.0])
def test_small_differences_are_mended_without_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, skew: float
) -> None:
    there = time.time() + skew
    _environment(monkeypatch, there - 30, there - 30 + 120)
    _use(monkeypatch, _proc(tmp_path, age=30))
    found = time_left()
    assert found.seconds == pytest.approx(90, abs=10)
    assert found.note is None


def test_a_job_that_was_slow_to_start_has_less_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    now = time.time()
    _environment(monkeypatch, now - 100, now + 500)
    _use(monkeypatch, _proc(tmp_path, age=50))  # its first process came 50 s after its start
    assert time_left().seconds == pytest.approx(500, abs=10)


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
def test_a_clock_outside_of_the_job_and_no_process_to_see(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, skew: float
) -> None:
    there = time.time() + skew
    _environment(monkeypatch, there, there + 1800)
    _use(monkeypatch, _proc(tmp_path, age=10, job="18"))
    found = time_left()
    assert found.seconds == pytest.approx(1800, abs=10)
    assert found.note is not None


@pytest.mark.parametrize("form", ["iso", "seconds"])
def test_the_end_from_squeue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str) -> None:
    start, end = time.time() - 60, time.time() + 3000
    if form == "iso":
        words = [time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(t)) for t in (start, end)]
    else:
        words = [str(int(start)), str(int(end))]
    _squeue(
        monkeypatch,
        tmp_path,
        "assert sys.argv[1:] == ['-h', '-j', '17', '-o', '%S %e'], sys.argv\n"
        f"print({' '.join(words)!r})",
    )
    found = time_left()
    assert found.seconds == pytest.approx(3000, abs=10)
    assert found.note is None


@pytest.mark.parametrize("word", ["NONE", "UNLIMITED"])
def test_a_job_without_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str) -> None:
    _squeue(monkeypatch, tmp_path, f"print('2026-01-01T00:00:00 {word}')")
    assert time_left() == scheduler.TimeLeft(None)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("print('2026-01-01T00:00:00 Unknown')", "it ends at 'Unknown'"),
        ("print('N/A N/A')", "it ends at 'N/A'"),
        ("print('1970-01-01T00:00:00 1970-01-01T00:00:00')", "it ends at '1970"),
        ("print('2026-13-45T99:00:00 2026-13-45T99:00:00')", "it ends at '2026-13"),
        ("pass", "squeue said ''"),
        ("print('a b c d')", "squeue said 'a b c d'"),
        ("sys.stdout.buffer.write(bytes([255, 254, 0, 10]))", "squeue said"),
        ("sys.exit('slurm_load_jobs error: Invalid job id')", "squeue failed: slurm_load_jobs"),
        ("sys.exit(3)", "squeue failed: no message"),
        ("time.sleep(60)", "squeue did not answer in 1 s"),
    ],
)
def test_a_squeue_that_does_not_say_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, reason: str
) -> None:
    monkeypatch.setattr(commands, "SECONDS", 1.0 if "sleep" in script else 120.0)
    _squeue(monkeypatch, tmp_path, script)
    found = time_left()
    assert found.seconds is None
    assert found.note is not None
    assert "the end of job 17 is not known" in found.note
    assert reason in found.note
    assert "--max-minutes" in found.note


def test_no_squeue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "squeue is not on this machine" in str(time_left().note)
    (tmp_path / "squeue").write_text("no program")
    (tmp_path / "squeue").chmod(0o755)
    assert "squeue cannot be started" in str(time_left().note)

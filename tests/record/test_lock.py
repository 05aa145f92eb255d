"""Two processes never work on one run; a dead one leaves no lock behind."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cp2.errors import UserError
from cp2.record import claim, heartbeat, lock
from cp2.record.folder import RunFolder
from cp2.record.lock import NO_FLOCK

HOLD = """
import os, sys, time
from pathlib import Path
from cp2.record.folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    child = os.fork() if "fork" in sys.argv else 1
    print(f"held {child}" if child else "", flush=True)
    time.sleep(600)
"""
AT_WORK = "is working on this run"


def _start(run: Path, *arguments: str, job: str | None = None) -> tuple[subprocess.Popen[str], str]:
    """A process that holds the run, and what it says."""
    environment = {k: v for k, v in os.environ.items() if k != "SLURM_JOB_ID"}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment | ({"SLURM_JOB_ID": job} if job else {}),
    )
    assert process.stdout is not None
    said = ""
    while not said.startswith("held"):
        assert process.poll() is None
        said = process.stdout.readline()
    return process, said


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[RunFolder, subprocess.Popen[str]]]:
    """A run that job 17 holds."""
    process, _ = _start(tmp_path / "run", job="17")
    yield RunFolder(tmp_path / "run"), process
    process.kill()
    process.communicate()


def _enter(run: RunFolder) -> None:
    with run.locked():
        pass


def _leave_lock(path: Path, host: str, pid: int, age: float = 0.0) -> None:
    """A lock's file as a process elsewhere left it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"job": "17", "host": host, "pid": pid, "token": "x"}))
    then = time.time() - age
    os.utime(path, (then, then))


@contextmanager
def _beating(path: Path, age: float = 0.0) -> Iterator[None]:
    """A process elsewhere, whose clock is so many seconds behind, renews its lock."""
    ended = threading.Event()

    def beat() -> None:
        begin = time.monotonic()
        then = time.time() - age
        while not ended.wait(0.05):
            now = then + time.monotonic() - begin
            os.utime(path, (now, now))

    elsewhere = threading.Thread(target=beat)
    elsewhere.start()
    try:
        yield
    finally:
        ended.set()
        elsewhere.join()


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _without_flock(monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOSYS) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_the_second_process_is_told_who_works_and_what_to_do(
    held: tuple[RunFolder, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.0)
    run, process = held
    with pytest.raises(UserError, match=AT_WORK) as caught:
        _enter(run)
    message = str(caught.value)
    assert f"job 17, process {process.pid} on {socket.gethostname()} is working" in message
    assert "last sign of life" in message
    assert "`scancel 17`" in message
    assert str(run.path) in message


def test_a_killed_process_lets_go_at_once(
    held: tuple[RunFolder, subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    run, process = held
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run.holder() is None
    _enter(run)
    assert "job 17, process" in capsys.readouterr().out
    _enter(run)
    assert capsys.readouterr().out == ""  # that one let go of it


def test_a_killed_processs_children_hold_nothing(tmp_path: Path) -> None:
    process, said = _start(tmp_path / "run", "fork")
    process.kill()
    process.wait()
    child = int(said.split()[1])
    try:
        os.kill(child, 0)  # as a data loading process that has not noticed yet
        _enter(RunFolder(tmp_path / "run"))
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_the_holder_is_seen_and_not_disturbed(
    held: tuple[RunFolder, subprocess.Popen[str]], tmp_path: Path
) -> None:
    run, process = held
    found = run.holder()
    assert found is not None
    assert (found.owner.job, found.owner.pid) == ("17", process.pid)
    assert 0 <= found.age < 60
    assert RunFolder(tmp_path / "none").holder() is None
    assert not (tmp_path / "none").exists()


def test_looking_at_a_lock_does_not_keep_a_process_from_it(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    _enter(run)
    with (tmp_path / lock.LOCK).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as `holder` does, but longer
        timer = threading.Timer(0.3, fcntl.flock, (file, fcntl.LOCK_UN))
        timer.start()
        _enter(run)
        timer.join()


def test_a_lock_from_elsewhere_with_an_old_beat_is_dead(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    _leave_lock(tmp_path / lock.LOCK, "elsewhere", 1, age=400)
    assert run.holder() is None
    _enter(run)


@pytest.mark.parametrize("beats", [True, False])
def test_flocks_that_other_machines_do_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beats: bool
) -> None:
    monkeypatch.setattr(lock, "QUIET_SECONDS", 1.0)
    run, path = RunFolder(tmp_path), tmp_path / lock.LOCK
    _leave_lock(path, "elsewhere", 1, age=0.5)
    if not beats:  # killed a moment ago
        _enter(run)
        return
    at_work = f"job 17, process 1 on elsewhere {AT_WORK}"
    with _beating(path), pytest.raises(UserError, match=at_work):
        _enter(run)
    found = run.holder()
    assert found is not None
    assert found.owner.host == "elsewhere"


@pytest.mark.parametrize("content", [b"\xff", b"{", b"[]", b'{"pid": 1}', b"process 7 on x"])
def test_a_lock_with_other_content_is_free_when_nobody_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(lock, "QUIET_SECONDS", 0.1)
    (tmp_path / lock.LOCK).write_bytes(content)
    _enter(RunFolder(tmp_path))
    assert (tmp_path / lock.LOCK).read_bytes() == b""


@pytest.mark.parametrize("number", sorted(set(NO_FLOCK)))
def test_without_flock_a_claim_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    _without_flock(monkeypatch, number)
    run = RunFolder(tmp_path)
    with run.locked():
        found = run.holder()
        assert found is not None
        assert found.owner.pid == os.getpid()
        with pytest.raises(UserError, match=f"process {os.getpid()} on .* {AT_WORK}") as caught:
            _enter(run)
        assert f"delete {tmp_path / lock.CLAIM}" in str(caught.value)
    assert run.holder() is None
    _enter(run)
    assert not (tmp_path / lock.CLAIM).exists()


def test_another_failure_of_flock_is_not_taken_for_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_flock(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=r"Errno 5"):
        _enter(RunFolder(tmp_path))


@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0])
@pytest.mark.parametrize(
    ("here", "age", "taken"),
    [
        (True, 0, True),
        (True, 400, True),
        (False, 0, False),
        (False, 200, False),
        (False, 400, True),
    ],
)
def test_claims_of_the_dead_are_taken_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    here: bool,
    age: float,
    taken: bool,
    skew: float,
) -> None:
    _without_flock(monkeypatch)
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.1)
    path = tmp_path / lock.CLAIM
    _leave_lock(path, socket.gethostname() if here else "elsewhere", _dead_pid(), age)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + skew)  # this machine's clock is wrong
    run = RunFolder(tmp_path)
    assert (run.holder() is None) is taken
    if taken:
        _enter(run)
        assert "left this run without a word; taken over" in capsys.readouterr().out
    else:
        with pytest.raises(UserError, match=f"process .* on elsewhere {AT_WORK}"):
            _enter(run)
        assert path.exists()


def test_a_claim_stamped_by_a_wrong_clock_that_still_beats_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_flock(monkeypatch)
    monkeypatch.setattr(claim, "BEAT_SECONDS", 1.0)
    path = tmp_path / lock.CLAIM
    _leave_lock(path, "elsewhere", 1, age=4000)
    with _beating(path, age=3990), pytest.raises(UserError, match=AT_WORK):
        _enter(RunFolder(tmp_path))


def test_a_quicker_processs_new_claim_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_flock(monkeypatch)
    path = tmp_path / lock.CLAIM
    _leave_lock(path, socket.gethostname(), _dead_pid())
    rename = Path.rename

    def slow(self: Path, target: Path) -> Path:
        if self == path:
            _leave_lock(path, "elsewhere", 99)  # took over what we found dead, before we do
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", slow)
    with pytest.raises(UserError, match=f"process 99 on elsewhere {AT_WORK}"):
        _enter(RunFolder(tmp_path))
    assert json.loads(path.read_text())["pid"] == 99
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


@pytest.mark.parametrize("flock", [True, False])
def test_a_held_lock_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flock: bool) -> None:
    if not flock:
        _without_flock(monkeypatch)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)
    path = tmp_path / (lock.LOCK if flock else lock.CLAIM)
    with RunFolder(tmp_path).locked():
        os.utime(path, (1000, 1000))
        while path.stat().st_mtime == 1000:
            time.sleep(0.01)
        assert heartbeat.age(path) < 60


def test_a_process_that_lost_its_lock_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _without_flock(monkeypatch)
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)

    def sleep() -> None:
        with RunFolder(tmp_path).locked():
            _leave_lock(tmp_path / lock.CLAIM, "elsewhere", 99)  # while it was suspended
            time.sleep(600)

    with pytest.raises(KeyboardInterrupt):
        sleep()
    assert "names job 17, process 99 on elsewhere now" in capsys.readouterr().err
    assert (tmp_path / lock.CLAIM).exists()  # it is not ours to remove


def test_a_lock_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> object:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(lock, "append_to", refuse)
    with pytest.raises(UserError, match="belongs to somebody else"):
        _enter(RunFolder(tmp_path))


@pytest.mark.parametrize("flock", [True, False])
def test_a_requeued_job_waits_for_its_process_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flock: bool
) -> None:
    """Slurm starts a job again while the old process still saves."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.0)
    run = RunFolder(tmp_path / "run")
    if flock:
        process, _ = _start(run.path, job="17")
    else:
        _without_flock(monkeypatch)
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        _leave_lock(run.path / ".claim", socket.gethostname(), process.pid)
    ended = threading.Timer(0.5, lambda: (process.kill(), process.wait()))
    ended.start()
    _enter(run)
    ended.join()
    assert process.returncode == -signal.SIGKILL
    process.communicate()

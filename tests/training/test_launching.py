"""The launcher, with small programs in place of trainings."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cp2.cli import training
from cp2.errors import UserError
from cp2.plan.graph import Plan, Run
from cp2.record.attempts import read_attempts
from cp2.settings.load import Configuration
from cp2.training import processes
from cp2.training.clock import RESUME_EXIT_CODE, Deadline, StoppedForResumeError
from cp2.training.nodes import ALONE, Node
from cp2.training.pretrain import pretrain
from cp2.training.processes import PROCESSES, RANK, RENDEZVOUS, this_rank, watch_over

PREPARE = """
import os, pathlib, signal, sys, time
rank, folder = int(os.environ["CP2_RANK"]), pathlib.Path(sys.argv[1])
(folder / f"pid-{rank}").write_text(str(os.getpid()))
"""


PATIENCE = 120.0  # seconds for what takes a second on an idle machine


def program(text: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", PREPARE + text, str(folder)]


def wait_for(*files: Path) -> None:
    end = time.monotonic() + PATIENCE
    for file in files:
        while not (file.exists() and file.read_text()):
            assert time.monotonic() < end, f"no {file.name} after {PATIENCE:g} s"
            time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 1.0)


def test_each_knows_its_number_and_shares_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    names = ("CP2_RANK", "CP2_PROCESSES", "CP2_RENDEZVOUS", "OMP_NUM_THREADS")
    text = f"(folder / str(rank)).write_text(' '.join(os.environ[n] for n in {names}))"
    watch_over(program(text, tmp_path), 3)
    told = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
    assert [(line[0], line[1], line[3]) for line in told] == [
        ("0", "3", "2"),
        ("1", "3", "2"),
        ("2", "3", "2"),
    ]
    assert len({line[2] for line in told}) == 1
    assert not Path(told[0][2]).parent.exists()


def test_this_process_was_not_launched() -> None:
    assert this_rank() is None


def test_all_saved(tmp_path: Path) -> None:
    with pytest.raises(StoppedForResumeError, match="all 2 processes saved"):
        watch_over(program(f"sys.exit({RESUME_EXIT_CODE})", tmp_path), 2)


def test_a_process_that_dies_is_named_and_the_others_end(tmp_path: Path) -> None:
    text = """
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
"""
    with pytest.raises(UserError, match=r"process 1 of 3 failed: .* SIGKILL, often for want of"):
        watch_over(program(text, tmp_path), 3)
    assert not any(is_alive(int((tmp_path / f"pid-{r}").read_text())) for r in range(3))


REPORT = """
from cp2.training.processes import reporting_to_launcher
from cp2.cli import training
from cp2.errors import UserError
from cp2.plan.graph import Plan, Run
from cp2.record.attempts import read_attempts
from cp2.settings.load import Configuration
from cp2.training.processes import _note_file
with reporting_to_launcher():
    other = _note_file(pathlib.Path(os.environ["CP2_RENDEZVOUS"]).parent, 1 - rank)
    while rank == {last} and not other.exists():
        time.sleep(0.01)
    raise {error}
"""


def test_the_first_error_is_told_and_not_what_followed_from_it(tmp_path: Path) -> None:
    errors = REPORT.format(
        last=0,
        error='ValueError("the cause") if rank else RuntimeError("connection closed by peer")',
    )
    with pytest.raises(UserError, match=r"process 1 of 2 failed: ValueError: the cause\. The oth"):
        watch_over(program(errors, tmp_path), 2)


def test_a_message_for_the_user_is_told_as_one_process_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 120.0)
    errors = REPORT.format(
        last=1,
        error='UserError("photo 7 is broken") if rank else RuntimeError("connection closed")',
    )
    with pytest.raises(UserError, match=r"^photo 7 is broken$"):
        watch_over(program(errors, tmp_path), 2)


LAUNCH = """
import sys
sys.path.insert(0, {here!r})
from test_launching import program
from pathlib import Path
from cp2.training.clock import StoppedForResumeError
from cp2.training.processes import watch_over
try:
    watch_over(program({text!r}, Path({folder!r})), 2)
except StoppedForResumeError:
    sys.exit(85)
"""
SAVES = """
signal.signal(signal.SIGTERM, lambda *_: os._exit(85))
(folder / f"ready-{rank}").write_text("yes")
time.sleep(600)
"""
FAILED = """
from cp2.training.processes import reporting_to_launcher
def fail(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with reporting_to_launcher():
            raise RuntimeError("connection closed by peer")
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
signal.signal(signal.SIGTERM, fail)
(folder / f"ready-{rank}").write_text("yes")
time.sleep(600)
"""
LISTENS = """
from cp2.training.processes import reporting_to_launcher
with reporting_to_launcher():
    (folder / f"ready-{rank}").write_text("yes")
    time.sleep(600)
"""


@contextmanager
def launcher(text: str, folder: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """In a session of its own, of which nothing is left where the test fails."""
    here = str(Path(__file__).parent)
    code = LAUNCH.format(here=here, text=text, folder=str(folder))
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as started:
        try:
            yield started
        except BaseException:
            os.killpg(started.pid, signal.SIGKILL)
            raise


def exit_code(started: "subprocess.Popen[bytes]") -> int:
    try:
        return started.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the launcher goes on {PATIENCE:g} s after the signal")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on(tmp_path: Path, number: int) -> None:
    with launcher(SAVES, tmp_path) as started:
        wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
        started.send_signal(number)
        assert exit_code(started) == RESUME_EXIT_CODE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_anything_could_be_saved(tmp_path: Path, number: int) -> None:
    with launcher("time.sleep(600)", tmp_path) as started:
        wait_for(tmp_path / "pid-0", tmp_path / "pid-1")
        os.killpg(started.pid, number)  # to all, as a terminal sends it
        assert exit_code(started) == RESUME_EXIT_CODE


def test_a_failure_beside_a_signal_is_not_called_saved(tmp_path: Path) -> None:
    """srun sends SIGTERM to a node whose training has just lost a process of another one."""
    with launcher(FAILED, tmp_path) as started:
        wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
        started.send_signal(signal.SIGTERM)
        assert exit_code(started) == 1  # the error's traceback


def test_no_process_outlives_its_launcher(tmp_path: Path) -> None:
    """The launcher's lock is gone then, and another job may begin with the run."""
    with launcher(LISTENS, tmp_path) as started:
        wait_for(tmp_path / "ready-0", tmp_path / "ready-1")
        started.kill()
    pids = [int((tmp_path / f"pid-{rank}").read_text()) for rank in range(2)]
    end = time.monotonic() + PATIENCE
    while any(map(is_alive, pids)):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_names_of_the_environment_are_not_those_of_a_scheduler() -> None:
    assert all(name.startswith("CP2_") for name in (RANK, PROCESSES, RENDEZVOUS))


def test_the_second_of_three_nodes_starts_ranks_two_and_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    names = ("CP2_PROCESSES", "CP2_LOCAL_RANK", "CP2_MEETING")
    text = f"(folder / str(rank)).write_text(' '.join(os.environ[n] for n in {names}))"
    watch_over(program(text, tmp_path), 2, Node(1, 3, host="first", port=9))
    told = {rank: (tmp_path / str(rank)).read_text() for rank in (2, 3)}
    assert told == {2: "6 0 first:9", 3: "6 1 first:9"}
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN, "srun's, once the first has left"
    signal.signal(signal.SIGTERM, before)


def test_a_signal_just_after_the_end_is_no_stop(
    tiny: tuple[Configuration, Plan], find: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration, run = tiny[0], find("moco-v2")
    results, execution = configuration.results, configuration.campaign.execution

    def launched(*_: object) -> None:
        pretrain(run, results, execution, Deadline())
        raise StoppedForResumeError("stopped by a signal", signalled=True)

    monkeypatch.setenv("CP2_DEVICE", "cpu")
    monkeypatch.setattr(training, "launch", launched)
    monkeypatch.setattr(Deadline, "listen", lambda _: None)
    training._hold("pretrain", run, results, execution, Deadline(), 2, ALONE)
    assert [one.outcome for one in read_attempts(run.folder(results).path)] == ["done"]

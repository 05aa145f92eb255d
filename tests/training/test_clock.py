"""Stop by clock and by signal."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from cp2.training import clock, scheduler
from cp2.training.clock import MARGIN_SECONDS, Deadline
from cp2.training.scheduler import TimeLeft


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(name, raising=False)


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: float | None) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(clock, "time_left", lambda: TimeLeft(left))


def test_no_deadline_never_stops() -> None:
    deadline = Deadline()
    assert deadline.reason() is None
    assert deadline.note is None


@pytest.mark.parametrize(("minutes", "stops"), [(0.0, True), (1.0, False)])
def test_max_minutes(minutes: float, stops: bool) -> None:
    assert (Deadline(minutes).reason() is not None) is stops


@pytest.mark.parametrize("left", [60.0, 120.0, 180.0, 3600.0, 86400.0])
def test_the_margin_leaves_time_to_save_and_time_to_train(
    monkeypatch: pytest.MonkeyPatch, left: float
) -> None:
    fake = Clock(monkeypatch, left)
    deadline = Deadline()
    margin = min(MARGIN_SECONDS, left / 4)
    assert deadline.margin == margin
    fake.now += left - margin - 1
    assert deadline.reason() is None
    fake = Clock(monkeypatch, left)
    deadline = Deadline()
    fake.now += left - margin
    assert deadline.reason() == f"the scheduler ends the job in {margin:.0f} s"


def test_a_slow_disk_and_slow_steps_widen_the_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Clock(monkeypatch, 3600.0)
    deadline = Deadline()
    deadline.save_took(200.0)
    assert deadline.margin == 600.0
    deadline.reason()
    fake.now += 50
    deadline.reason()
    assert deadline.margin == 650.0
    deadline.save_took(5000.0)
    assert deadline.margin == 1800.0  # half of the time is for training whatever happens
    deadline.save_took(1.0)
    assert deadline.margin == MARGIN_SECONDS


@pytest.mark.parametrize(
    ("minutes", "reason"), [(10, "the time given by --max-minutes is up"), (1000, "the scheduler")]
)
def test_the_earlier_end_wins(monkeypatch: pytest.MonkeyPatch, minutes: float, reason: str) -> None:
    fake = Clock(monkeypatch, 3600.0)
    deadline = Deadline(minutes)
    fake.now += min(60 * minutes, 3600 - MARGIN_SECONDS)
    assert str(deadline.reason()).startswith(reason)


def test_setting_the_wall_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time() + 3600)))
    deadline = Deadline()
    later = time.time() + 7200
    monkeypatch.setattr(time, "time", lambda: later)
    assert deadline.reason() is None


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops(number: signal.Signals) -> None:
    deadline = Deadline()
    deadline.listen()
    assert deadline.reason() is None
    os.kill(os.getpid(), number)
    assert deadline.reason() == f"{number.name} was received"
    assert deadline.signalled


@pytest.mark.usefixtures("handlers")
def test_a_second_ctrl_c_does_not_wait_for_the_save() -> None:
    Deadline().listen()
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_the_note_of_an_unknown_end_reaches_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("PATH", "")
    deadline = Deadline()
    assert deadline.note is not None
    assert "the end of job 17 is not known" in deadline.note
    assert "--max-minutes" in deadline.note
    assert deadline.reason() is None
    assert scheduler.time_left().seconds is None

"""Stop by clock and by signal."""

import os
import signal
import time

import pytest

from cp2.training.clock import MARGIN_SECONDS, Deadline


def test_no_deadline_never_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert Deadline().reason() is None


@pytest.mark.parametrize(("minutes", "stops"), [(0.0, True), (1.0, False)])
def test_max_minutes(monkeypatch: pytest.MonkeyPatch, minutes: float, stops: bool) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert (Deadline(minutes).reason() is not None) is stops


@pytest.mark.parametrize(("left", "stops"), [(MARGIN_SECONDS - 5, True), (3600.0, False)])
def test_the_schedulers_end_less_the_margin(
    monkeypatch: pytest.MonkeyPatch, left: float, stops: bool
) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time() + left)))
    assert (Deadline(max_minutes=60).reason() is not None) is stops


def test_sigterm_stops() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        deadline = Deadline()
        deadline.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        assert deadline.reason() == "SIGTERM was received"
    finally:
        signal.signal(signal.SIGTERM, before)

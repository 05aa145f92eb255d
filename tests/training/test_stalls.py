"""A training that stands still: who is named, and when the others give up."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import distributed

from cp2.errors import PassingError
from cp2.training.processes import watch_over
from cp2.training.stalls import StallWatch

HOSTS = ["a", "b", "c"]


class Team:
    """Three processes' watches on one store, looked at by a clock that the test moves."""

    def __init__(self) -> None:
        self.steps = [0, 0, 0]
        self.given_up: list[str] = []
        store = distributed.HashStore()
        self.watches = [
            StallWatch(rank, HOSTS, store, self._step_of(rank), self._give_up) for rank in range(3)
        ]

    def _step_of(self, rank: int) -> Callable[[], int]:
        return lambda: self.steps[rank]

    def _give_up(self, error: PassingError) -> None:
        self.given_up.append(str(error))

    def look(self, begin: int, end: int, alive: tuple[int, ...] = (0, 1, 2)) -> None:
        for now in range(begin, end, 5):
            for rank in alive:
                self.watches[rank].look(float(now))


@pytest.fixture
def team() -> Team:
    return Team()


def test_nothing_is_said_of_a_slow_step(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    for step in range(5):
        team.steps = [step] * 3
        team.look(60 * step, 60 * step + 60)
    assert capsys.readouterr().err == ""
    assert team.given_up == []


def test_all_at_one_step_is_said_once_by_the_first(
    team: Team, capsys: pytest.CaptureFixture[str]
) -> None:
    team.look(0, 2000)
    said = capsys.readouterr().err
    assert said.startswith("no step for 65 s: all 3 processes are at the same one: it is slow")
    assert "NCCL_SOCKET_IFNAME" in said
    assert said.count("\n") == 1
    assert team.given_up == []
    team.steps = [1] * 3
    team.look(2000, 2100)  # another stall is said again
    assert capsys.readouterr().err.count("\n") == 1


def test_one_that_is_behind_is_named(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.steps = [8, 7, 8]
    team.look(0, 100)
    assert capsys.readouterr().err == (
        "no step for 65 s: process 1 on b behind the others: slow (files, a save, validation), "
        "or hanging\n"
    )


@pytest.mark.parametrize(
    ("alive", "text"),
    [
        ((0, 2), "process 1 on b gives no sign of life: stopped, or its node or the network lost"),
        ((1, 2), "process 0 on a gives no sign of life"),
        ((2,), "processes 0 on a, 1 on b give no sign of life: stopped, or their nodes"),
    ],
)
def test_one_that_died_amid_a_training_is_named(
    team: Team, capsys: pytest.CaptureFixture[str], alive: tuple[int, ...], text: str
) -> None:
    team.look(0, 50)  # an earlier stall, in which all were heard
    team.steps = [1] * 3
    team.look(50, 130, alive)
    said = capsys.readouterr().err
    assert said.startswith(f"no step for 65 s: {text}")
    assert said.count("\n") == 1
    team.look(130, 950, alive)
    assert not team.given_up
    team.look(950, 960, alive)
    assert len(team.given_up) == len(alive)
    assert team.given_up[0].startswith(f"no step for 905 s: {text}")


class Gone(distributed.Store):  # type: ignore[misc]  # its base has no annotations
    """The store of a process that is no more."""

    def set(self, key: str, value: str) -> None:
        raise RuntimeError("connection reset")


def test_without_its_store_process_0_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    watch = StallWatch(2, HOSTS, Gone(), lambda: 0, lambda error: None)
    for now in range(0, 100, 5):
        watch.look(float(now))
    assert "process 0 on a gives no sign of life" not in capsys.readouterr().err  # 1 says so
    watch = StallWatch(1, HOSTS, Gone(), lambda: 0, lambda error: None)
    for now in range(0, 100, 5):
        watch.look(float(now))
    assert "process 0 on a gives no sign of life" in capsys.readouterr().err


STOPPED = """
import os, signal, sys
import torch
from pathlib import Path
from cp2.training import stalls
from cp2.training.parallel import joined
from cp2.training.processes import reporting_to_launcher, this_rank

if this_rank()[0] == 0:
    stalls.BEAT_SECONDS, stalls.SILENT_SECONDS = 0.1, 0.5
    stalls.NAMED_SECONDS, stalls.GIVEN_UP_SECONDS = 1.0, 2.0
os.environ["CP2_DEVICE"] = "cpu"
with reporting_to_launcher(), joined(Path(sys.argv[1])):
    if this_rank()[0] == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    torch.distributed.all_reduce(torch.ones(1))
"""


def test_a_stopped_process_ends_the_training(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPED, str(tmp_path)]
    with pytest.raises(PassingError, match=r"process 1 on \S+ gives no sign of life"):
        watch_over(command, 2)

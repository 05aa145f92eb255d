"""A training that stands still: who is named, and when the others give up."""

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from torch import distributed

from cp2.errors import PassingError
from cp2.training.clock import StoppedForResumeError
from cp2.training.processes import watch_over
from cp2.training.stalls import StallWatch

HOSTS = ["a", "b", "c"]


class Team:
    """Watches of processes on one store, looked at by a clock that the test moves."""

    def __init__(self, place: Path) -> None:
        self.steps = [0, 7, 14]  # counted before they met
        self.given_up: list[str] = []
        store = distributed.FileStore(str(place))
        self.watches = [
            StallWatch(rank, HOSTS, store, self._steps_of(rank), self._give_up) for rank in range(3)
        ]

    def _steps_of(self, rank: int) -> Callable[[], int]:
        return lambda: self.steps[rank]

    def _give_up(self, error: PassingError) -> None:
        self.given_up.append(str(error))

    def step(self, *ranks: int) -> None:
        for rank in ranks or range(3):
            self.steps[rank] += 1

    def leave(self, rank: int, error: type[BaseException] | None = None) -> None:
        watch = self.watches[rank]
        watch.__enter__()
        watch.__exit__(error, None, None)

    def look(self, begin: int, end: int, alive: Sequence[int] = (0, 1, 2)) -> None:
        for now in range(begin, end, 5):
            for rank in alive:
                self.watches[rank].look(float(now))


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path / "store")


def test_nothing_is_said_of_a_slow_step(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        team.step()
        team.look(60 * number, 60 * number + 60)
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
    team.step()
    team.look(2000, 2100)  # another stall is said again
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "NCCL_SOCKET_IFNAME" not in said  # they have exchanged something


def test_one_that_is_behind_is_named(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.step(0, 2)
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
    team.step()
    team.look(50, 130, alive)
    said = capsys.readouterr().err
    assert said.startswith(f"no step for 65 s: {text}")
    assert said.count("\n") == 1
    team.look(130, 955, alive)
    assert not team.given_up
    team.look(955, 960, alive)
    assert len(team.given_up) == len(alive)
    assert team.given_up[0].startswith(f"no step for 905 s: {text}")


def test_one_that_dies_later_is_said_too(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.look(0, 100)
    assert "all 3 processes" in capsys.readouterr().err
    team.look(100, 200, (0, 1))
    assert "process 2 on c gives no sign of life" in capsys.readouterr().err


@pytest.mark.parametrize("error", [None, StoppedForResumeError])
def test_the_last_save_of_process_0_is_not_disturbed(
    team: Team, capsys: pytest.CaptureFixture[str], error: type[BaseException] | None
) -> None:
    """The others have left by then: they are done, or have stopped at the same step."""
    team.look(0, 10)
    for rank in (1, 2):
        team.leave(rank, error)
    team.look(10, 2000, (0,))
    assert capsys.readouterr().err == ""
    assert team.given_up == []


def test_one_that_failed_has_not_left(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.look(0, 10)
    team.leave(1, ValueError)
    team.look(10, 100, (0, 2))
    assert "process 1 on b gives no sign of life" in capsys.readouterr().err


def test_a_job_that_was_suspended_goes_on(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    team.look(0, 40)
    team.watches[1].look(1200.0)  # wakes first
    team.look(1205, 1250)
    assert capsys.readouterr().err == ""
    assert team.given_up == []


class Gone(distributed.Store):  # type: ignore[misc]  # its base has no annotations
    """The store of a process that is no more."""

    def set(self, key: str, value: str) -> None:
        raise RuntimeError("connection reset")

    def clone(self) -> "Gone":
        return self


@pytest.mark.parametrize(
    ("hosts", "rank", "text"),
    [
        (["a", "b"], 1, "process 0 on a gives"),
        (["a", "a", "b", "b"], 2, "processes 0 on a, 1 on a give"),
        (["a", "a", "b", "b"], 3, None),  # 2 says so
        (["a", "a"], 1, "process 0 on a gives"),
    ],
)
def test_without_its_store_the_first_node_is_lost(
    capsys: pytest.CaptureFixture[str], hosts: list[str], rank: int, text: str | None
) -> None:
    watch = StallWatch(rank, hosts, Gone(), lambda: 0, lambda error: None)
    for now in range(0, 100, 5):
        watch.look(float(now))
    said = capsys.readouterr().err
    assert (f"no step for 65 s: {text} no sign of life" in said) if text else not said


def test_a_process_that_waits_for_a_key_still_beats() -> None:
    server = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store = distributed.PrefixStore("run", server)
    waiting = threading.Thread(target=lambda: store.get("late"))
    watch = StallWatch(0, ["a", "b"], store, lambda: 0, lambda error: None)
    waiting.start()
    for now in range(0, 10, 5):
        watch.look(float(now))
    other = store.clone()
    there = other.check(["beat-0"])
    other.set("late", "")
    waiting.join()
    assert there


STOPPED = """
import os, signal, sys
import torch
from pathlib import Path
from cp2.training import stalls
from cp2.training.parallel import joined
from cp2.training.processes import reporting_to_launcher, this_rank

stalls.BEAT_SECONDS = 0.1
if this_rank()[0] == 0:
    stalls.SILENT_SECONDS, stalls.NAMED_SECONDS, stalls.GIVEN_UP_SECONDS = 10, 11, 12
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

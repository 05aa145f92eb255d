"""Which node this is, and what is said of a process that does not come."""

import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

from cp2.errors import PassingError, UserError
from cp2.training import meeting, nodes
from cp2.training.clock import StoppedForResumeError
from cp2.training.meeting import _session, meet
from cp2.training.nodes import ALONE, Node, this_node
from cp2.training.processes import MEETING, RENDEZVOUS

SRUN = {"CP2_NODES": "2", "SLURM_NODEID": "1", "SLURM_JOB_ID": "12345", "SLURM_STEP_NUM_TASKS": "2"}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a"}


def test_slurm_counts_beside_our_own_variable_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "ask", lambda *words: f"first\n{words[-1]}\n")
    asked = SRUN | {"SLURM_STEP_NODELIST": "n[1-2]"}
    assert this_node(asked) == Node(1, 2, 0, "first", 22345)
    assert this_node(asked | {"MASTER_ADDR": "x", "MASTER_PORT": "7"}) == Node(1, 2, 0, "x", 7)
    # The batch shell of such a job has these, too.
    batch = {"SLURM_NODEID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "1"}
    assert this_node(batch) == this_node({}) == this_node(SRUN | {"CP2_NODES": "1",
        "SLURM_NODEID": "0", "SLURM_STEP_NUM_TASKS": "1", "MASTER_ADDR": "x"}) == ALONE  # fmt: skip


def test_another_launcher() -> None:
    assert this_node(TORCHRUN) == Node(3, 4, 1, "a", 29500)
    assert this_node(TORCHRUN | {"MASTER_PORT": "7"}).port == 7
    assert this_node({"RANK": "0", "WORLD_SIZE": "1"}) == ALONE
    assert this_node({"RANK": "0", "MASTER_ADDR": "a"}) == ALONE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (SRUN | {"SLURM_STEP_NUM_TASKS": "4"}, "srun started 4 tasks; start one a node"),
        ({"CP2_NODES": "2"}, "SLURM_NODEID is not set: several nodes are started by srun"),
        ({"CP2_NODES": "two"}, "CP2_NODES is 'two', must be a number"),
        (TORCHRUN | {"RANK": "4"}, "number 4 of 4: numbers go from 0 to 3"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "WORLD_SIZE=2 are set, but not MASTER_ADDR"),
        (TORCHRUN | {"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x', must be a number"),
        (TORCHRUN | {"MASTER_PORT": "99999"}, "MASTER_PORT is 99999, must be from 1 to 65535"),
        (SRUN, "first node is not known: scontrol does not say it; set MASTER_ADDR"),
    ],
)
def test_what_cannot_be(given: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        this_node(given)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where processes of one machine meet."""
    monkeypatch.setenv(RENDEZVOUS, str(tmp_path / "rendezvous"))
    monkeypatch.delenv(MEETING, raising=False)
    monkeypatch.setattr(meeting, "NAMED_SECONDS", 0.0)
    return tmp_path / "rendezvous"


def test_one_that_does_not_come_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = distributed.FileStore(str(place))
    distributed.PrefixStore(_session(place.parent), store).set("cp2-2", "there")
    monkeypatch.setattr(meeting, "GIVEN_UP_SECONDS", 0.5)
    with pytest.raises(PassingError, match=r"processes 1, 3 of 4 did not come to process 0 on"):
        meet(0, 4, place.parent, "cpu", lambda: None)
    assert capsys.readouterr().err.count("; waiting") == 1


def test_waiting_ends_when_asked_to(place: Path) -> None:
    with pytest.raises(StoppedForResumeError, match="before all processes met: SIGTERM"):
        meet(0, 2, place.parent, "cpu", lambda: "SIGTERM was received")


def both(folders: tuple[Path, Path], devices: tuple[str, str] = ("cpu", "cpu")) -> list[Any]:
    """What each of two processes gets: store and hosts, or the error."""
    found: list[Any] = [None, None]

    def one(rank: int) -> None:
        try:
            found[rank] = meet(rank, 2, folders[rank], devices[rank], lambda: None)
        except UserError as error:
            found[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Of process 0 of several nodes."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    monkeypatch.setenv(MEETING, f"127.0.0.1:{port}")
    return port


def test_several_nodes_meet_at_process_0(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        monkeypatch.setattr(meeting, "TRY_SECONDS", 0.5)
        with pytest.raises(PassingError, match=rf"wait for .* at 127.0.0.1:{port} .*MASTER_PORT"):
            meet(0, 2, tmp_path, "cpu", lambda: None)
    monkeypatch.setattr(meeting, "GIVEN_UP_SECONDS", 0.1)
    with pytest.raises(PassingError, match=rf"process 0 of 2 did .* meet at 127.0.0.1:{port}"):
        meet(1, 2, tmp_path, "cpu", lambda: None)
    monkeypatch.setattr(meeting, "GIVEN_UP_SECONDS", 60)
    monkeypatch.setattr(meeting, "TRY_SECONDS", 10.0)
    (store, hosts), _ = both((tmp_path, tmp_path))
    assert hosts == [socket.gethostname()] * 2
    assert json.loads(store.get("cp2-1")) == [socket.gethostname(), "cpu"]
    assert not list(tmp_path.iterdir())


def test_a_node_that_sees_other_files_is_named_by_all(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "SHARED_SECONDS", 0.5)
    folders = tmp_path / "a" / "run", tmp_path / "b" / "run"
    for folder in folders:
        folder.mkdir(parents=True)
    for error in both(folders):
        assert isinstance(error, PassingError)
        assert re.match(r"process 1 on \S+ did not see a file that process 0 on", str(error))
    assert not list(folders[0].iterdir())


def test_one_without_a_gpu_is_named_by_all(place: Path, tmp_path: Path) -> None:
    for error in both((tmp_path, tmp_path), ("cuda", "cpu")):
        assert re.match(r"of 2 processes some have a GPU, but not process 1 on", str(error))


def test_what_another_attempt_left_is_not_met(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun's store outlives an attempt."""
    both((tmp_path, tmp_path))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setattr(meeting, "GIVEN_UP_SECONDS", 0.5)
    with pytest.raises(PassingError, match="process 1 of 2 did not come"):
        meet(0, 2, tmp_path, "cpu", lambda: None)
    with pytest.raises(PassingError, match="process 1 of 2 did not come"):
        meet(0, 2, tmp_path / "another-run", "cpu", lambda: None)

"""One training by several commands, as on several nodes: the same numbers and the same ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from test_several_processes import CAMPAIGN, command, members, prepared

from cp2.models.weights import load_weights
from cp2.plan.build import build_plan
from cp2.plan.graph import Run
from cp2.record.attempts import read_attempts
from cp2.record.metrics import read_metrics
from cp2.settings.load import load_campaign
from cp2.training.clock import RESUME_EXIT_CODE, Deadline
from cp2.training.pretrain import pretrain

__all__ = ["prepared"]
Prepared = tuple[Path, Path, Run]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def environments(count: int, srun: bool = True) -> list[dict[str, str]]:
    """What srun with CP2_NODES, or another launcher, sets; both nodes are this machine."""
    common = {"CP2_DEVICE": "cpu", "GLOO_SOCKET_IFNAME": "lo"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    names = ("CP2_NODES", "SLURM_NODEID") if srun else ("WORLD_SIZE", "RANK")
    own = [{names[0]: str(count), names[1]: str(i)} for i in range(count)]
    return [{**os.environ, **common, **each} for each in own]


def start(words: list[str], places: Sequence[dict[str, str]]) -> list["subprocess.Popen[str]"]:
    pipe = subprocess.PIPE
    return [
        subprocess.Popen(words, env=place, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        for place in places
    ]


def ends(started: list["subprocess.Popen[str]"]) -> tuple[list[int], list[str]]:
    """Exit codes and outputs."""
    try:
        outputs = [process.communicate(timeout=600)[0] for process in started]
    finally:
        for process in started:
            process.kill()  # nothing happens where it has ended
    return [process.returncode for process in started], outputs


def until_step(started: list["subprocess.Popen[str]"], metrics: Path, step: int) -> None:
    while not (lines := read_metrics(metrics)) or lines[-1]["step"] < step:
        assert all(process.poll() is None for process in started), ends(started)
        time.sleep(0.05)


def test_two_nodes_give_the_numbers_of_one_process(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So do two processes of one node: tests/training/test_two_processes.py."""
    monkeypatch.setenv("CP2_DEVICE", "cpu")
    _, results, _ = prepared
    root = results.parent
    small = CAMPAIGN.replace("200: 60", "200: 4").replace(
        "queue_size: 8", "queue_size: 8, optimizer: {{resnet: {{kind: sgd, lr: 1e-3}}}}"
    )
    file = root / "small.yaml"
    file.write_text(small.format(root=root))
    settings = load_campaign(str(file))
    run = next(r for r in build_plan(settings).stage("pretrain") if r.tags["method"] == "moco-v2")
    codes, outputs = ends(start(command(file, run, 1), environments(2)))
    assert not any(codes), outputs
    (attempt,) = read_attempts(run.folder(results).path)
    assert (attempt.processes, attempt.outcome) == (2, "done")
    (root / "one").mkdir()
    (root / "one" / "datasets").symlink_to(results / "datasets")
    pretrain(run, root / "one", settings.campaign.execution, Deadline())
    ours, theirs = (run.folder(place) for place in (results, root / "one"))
    losses = [[line["loss"] for line in read_metrics(f.metrics)] for f in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(
        load_weights(ours.model)[0], load_weights(theirs.model)[0], atol=1e-5, rtol=1e-5
    )


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_death_and_a_signal(prepared: Prepared) -> None:
    file, results, run = prepared
    folder = run.folder(results)
    words = command(file, run, 1)

    started = start(words, environments(2))
    until_step(started, folder.metrics, 2)
    os.kill(members(started[1].pid)[0], signal.SIGKILL)
    codes, (first, second) = ends(started)
    assert codes == [2, 2]
    assert "node 1 of 2" in second
    assert "process 1 of 2 failed: it was ended by SIGKILL" in second
    assert "process 0 of 2 failed" in first
    assert "that node's lines say why" in first

    started = start(words, environments(2))
    until_step(started, folder.metrics, 8)
    for process in started:
        process.send_signal(signal.SIGTERM)
    codes, outputs = ends(started)
    assert codes == [RESUME_EXIT_CODE, 0], outputs  # srun's is the largest

    found = [(a.processes, a.outcome) for a in read_attempts(folder.path)]
    assert found == [(2, "failed"), (2, "saved")]


def test_torchrun_starts_and_stops_it(prepared: Prepared) -> None:
    """Its exit code of a saved run is 1: it knows no other."""
    file, results, run = prepared
    folder = run.folder(results)
    place = {**os.environ, "CP2_DEVICE": "cpu", "GLOO_SOCKET_IFNAME": "lo"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [*torchrun, "-m", "cp2", *command(file, run, 1)[3:]]
    started = start(words, [place])
    until_step(started, folder.metrics, 2)
    started[0].send_signal(signal.SIGTERM)
    (code,), outputs = ends(started)
    assert code == 1, outputs
    assert read_attempts(folder.path)[-1].outcome == "saved", outputs

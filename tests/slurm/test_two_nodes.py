"""Trainings over two nodes of a real scheduler: the numbers of one node."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from project import Project
from scheduler import TwoNodes

from cp2.models.weights import load_weights
from cp2.plan.graph import Run
from cp2.record.attempts import read_attempts

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]  # its waits are bounded, too
# One process gives the same within 1e-5, too, where no norm blows rounding up as those of ASPP over
# 1 x 1 maps: tests/cli/test_several_nodes.py.
SET = ("campaign.epochs={200: 15}", "campaign.execution.save_minutes=0")
SITE = "pretrain: {nodes: 2, gpus: 1, cpus: 1, mem_mb: 1000, minutes: 20}"


@pytest.fixture(scope="module")
def two() -> Iterator[TwoNodes]:
    if reason := TwoNodes.why_not():
        pytest.skip(reason)
    cluster = TwoNodes()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def project(prepared: Project, two: TwoNodes, tmp_path: Path) -> Iterator[Project]:
    copy = Project(prepared.copy(tmp_path / "project").folder, two)
    (copy.folder / "ours.yaml").write_text(SITE)
    yield copy
    for driver in copy.drivers:
        driver.stop()
    for job in two.jobs("PENDING,RUNNING", "%i"):
        two.command("scancel", job, check=False)


@pytest.fixture(scope="module")
def of_one_node(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    project = prepared.copy(tmp_path_factory.mktemp("one") / "project")
    run = project.run_of("pretrain", *SET)
    words = [word for text in SET for word in ("--set", text)]
    done = project.cp2(
        "pretrain", run.id, "--campaign", "campaign.yaml", "--processes", "2", *words
    )
    assert done.returncode == 0, done.stderr
    return _weights(project, run)


def _weights(project: Project, run: Run) -> torch.Tensor:
    parts, _ = load_weights(project.path(run) / "model.safetensors")
    tensors = [part[name].flatten().double() for part in parts.values() for name in sorted(part)]
    return torch.cat(tensors)


@pytest.mark.parametrize("lost", [False, True], ids=["requeued", "node lost"])
def test_it_ends_as_two_processes_of_one_node_do(
    project: Project, two: TwoNodes, of_one_node: torch.Tensor, lost: bool
) -> None:
    run = project.run_of("pretrain", *SET)
    target = f"results/pretrain/{run.id}/done.json"
    driver = project.start("slurm", target, assignments=SET, site="ours.yaml")
    driver.until(lambda: project.steps(run) >= 10, "the 10th step")
    (job,) = two.jobs("RUNNING", "%i")
    assert two.command("squeue", "-h", "-j", job, "-o", "%N") == "node[1-2]"
    if lost:
        two.cut("node2")
        two.command("scontrol", "update", "NodeName=node2", "State=down", "Reason=test")
    else:
        two.command("scontrol", "requeue", job)
    driver.until(lambda: two.jobs("PENDING", "%i") == [job], "the job waits again")
    if lost:
        two.start_node("node2")
    two.command("scontrol", "update", f"JobId={job}", "StartTime=now")
    assert driver.wait() == 0, driver.report()
    torch.testing.assert_close(_weights(project, run), of_one_node, atol=1e-5, rtol=1e-5)
    first, last = read_attempts(project.path(run))
    assert first.processes == last.processes == 2
    assert (first.outcome == "saved", last.outcome) == (not lost, "done")
    assert "resumed at step" in (project.path(run) / "log.txt").read_text()
    assert two.jobs(form="%i")[-1] == job, "no second job"

"""Trainings over two nodes of a real scheduler: the numbers of one node."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from long_run import only_job, seconds_left, start_again
from project import Project
from safetensors.torch import load_file
from scheduler import TwoNodes, skip_or_fail
from two_processes import meeting, on_two

from cp2.plan.build import build_plan
from cp2.plan.graph import Run
from cp2.protocols.registry import finetune
from cp2.record.attempts import read_attempts
from cp2.settings.load import load_campaign
from cp2.training.clock import Deadline
from cp2.training.pretrain import pretrain

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]  # its waits are bounded, too
# One process gives the same within 1e-5, too, where no norm blows rounding up as those of ASPP over
# 1 x 1 maps: tests/cli/test_several_nodes.py.
SITE = """
pretrain: {{nodes: 2, gpus: 1, cpus: 1, mem_mb: 1000, minutes: {minutes}}}
finetune: {{nodes: 2, gpus: 1, cpus: 1, mem_mb: 1000, minutes: 20}}
"""


@pytest.fixture(scope="module")
def two() -> Iterator[TwoNodes]:
    skip_or_fail(TwoNodes.why_not())
    cluster = TwoNodes()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def with_detector(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The prepared project with two_nodes.yaml as its campaign, and the detector's images."""
    project = prepared.copy(tmp_path_factory.mktemp("two") / "prepared")
    (project.folder / "campaign.yaml").rename(project.folder / "configs" / "small.yaml")
    shutil.copy(Path(__file__).parent / "two_nodes.yaml", project.folder / "campaign.yaml")
    driver = project.start("local", "results/datasets/demo-voc2007/dataset.json")
    assert driver.wait() == 0, driver.report()
    return project


@pytest.fixture
def project(with_detector: Project, two: TwoNodes, tmp_path: Path) -> Iterator[Project]:
    copy = Project(with_detector.copy(tmp_path / "project").folder, two)
    (copy.folder / "ours.yaml").write_text(SITE.format(minutes=20))
    yield copy
    for driver in copy.drivers:
        driver.stop()
    for job in two.jobs("PENDING,RUNNING", "%i"):
        two.command("scancel", job, check=False)
    two.wait(lambda: not two.jobs("PENDING,RUNNING,COMPLETING"), "the jobs' end")


@pytest.fixture(scope="module")
def one_node(with_detector: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """All trainings of the campaign by two processes of one node."""
    project = with_detector.copy(tmp_path_factory.mktemp("one") / "project")
    on_two(_train_all, project.folder)
    return project


def _train_all(rank: int, folder: Path) -> None:
    os.chdir(folder)
    os.environ["CP2_DEVICE"] = "cpu"
    settings = load_campaign("campaign.yaml")
    for number, stage in enumerate(("pretrain", "finetune")):
        loop = pretrain if stage == "pretrain" else finetune
        with meeting(rank, folder, number):
            for run in build_plan(settings).stage(stage):
                loop(run, settings.results, settings.campaign.execution, Deadline())


def _assert_alike(project: Project, other: Project, run: Run) -> None:
    ours, theirs = (load_file(each.path(run) / "model.safetensors") for each in (project, other))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("lost", [False, True], ids=["requeued", "node lost"])
def test_it_ends_as_two_processes_of_one_node_do(
    project: Project, two: TwoNodes, one_node: Project, lost: bool
) -> None:
    run = project.run_of("pretrain")
    target = f"results/pretrain/{run.id}/done.json"
    driver = project.start("slurm", target, site="ours.yaml")
    driver.until(lambda: project.steps(run) >= 10, "the 10th step")
    job = only_job(two)
    assert two.command("squeue", "-h", "-j", job, "-o", "%N") == "node[1-2]"
    if lost:
        two.cut("node2")
        two.command("scontrol", "update", "NodeName=node2", "State=down", "Reason=test")
        driver.until(lambda: two.jobs("PENDING", "%i") == [job], "the job waits again")
        two.start_node("node2")
    else:
        two.command("scontrol", "requeue", job)
    start_again(two, driver, job)
    assert driver.wait() == 0, driver.report()
    _assert_alike(project, one_node, run)
    first, last = read_attempts(project.path(run))
    assert first.processes == last.processes == 2
    assert (first.outcome == "saved", last.outcome) == (not lost, "done")
    assert "resumed at step" in (project.path(run) / "log.txt").read_text()
    assert two.jobs(form="%i")[-1] == job, "no second job"


def test_a_campaign_whose_time_is_up_and_whose_process_dies(
    project: Project, two: TwoNodes, one_node: Project
) -> None:
    """By cluster-generic: the pretraining's time is up, then a process of the finetuning on the
    other node is killed, while a detector is trained beside it.

    A process is held until the last seconds, so that a fast machine is not done before.
    """
    (project.folder / "ours.yaml").write_text(SITE.format(minutes=2))
    plan = project.plan()
    (pretraining,) = plan.stage("pretrain")
    finetuning, detector = sorted(plan.stage("finetune"), key=lambda run: "c4" in run.id)
    (score,) = (run for run in plan.stage("evaluate") if finetuning.key in run.needs)
    targets = [f"results/{run.stage}/{run.id}/done.json" for run in (score, detector)]
    driver = project.start("cluster-generic", *targets, site="ours.yaml")

    driver.until(lambda: project.steps(pretraining) >= 1, "the first step")
    job = only_job(two)
    assert two.command("squeue", "-h", "-j", job, "-o", "%N") == "node[1-2]"
    held = two.training_process(f"pretrain {pretraining.id}", "node2")
    os.kill(held, signal.SIGSTOP)
    two.wait(lambda: seconds_left(two, job) <= 8, "the last seconds", 240)
    os.kill(held, signal.SIGCONT)
    start_again(two, driver, job)

    driver.until(lambda: project.steps(finetuning) >= 5, "the finetuning's 5th step")
    assert len(read_attempts(project.path(pretraining))) == 2
    os.kill(two.training_process(f"finetune {finetuning.id}", "node2"), signal.SIGKILL)
    assert driver.wait() == 0, driver.report()
    assert "process 1 of 2 failed: it was ended by SIGKILL" in driver.output
    assert driver.output.count("Trying to restart job") == 1, driver.output

    for run, outcomes in (
        (pretraining, ["saved", "done"]),
        (finetuning, ["failed", "done"]),
        (detector, ["done"]),
    ):
        _assert_alike(project, one_node, run)
        attempts = [(each.processes, each.outcome) for each in read_attempts(project.path(run))]
        assert attempts == [(2, outcome) for outcome in outcomes], run.key
        log = (project.path(run) / "log.txt").read_text()
        assert ("resumed at step" in log) == (len(outcomes) > 1)

"""Pretrainings on a real scheduler whose job or node is lost: as uninterrupted ones."""

import time

import pytest
from long_run import Record, finished, only_job, pretrain, start_again
from project import EXECUTORS, Project
from scheduler import Slurm

from cp2.record.attempts import read_attempts

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]  # its waits are bounded, too


@pytest.mark.parametrize("executor", EXECUTORS)
def test_requeued_in_the_middle(
    project: Project, slurm: Slurm, uninterrupted: bytes, executor: str, record: Record
) -> None:
    run, driver = pretrain(project, executor)
    job, begin, steps = only_job(slurm), time.time(), project.steps(run)
    slurm.command("scontrol", "requeue", job)
    start_again(slurm, driver, job)
    assert 10 <= project.steps(run) < 240
    assert finished(project, run, driver) == uninterrupted
    record(project.recovery(run, begin, steps))


def test_two_gpus_two_processes(project: Project, slurm: Slurm) -> None:
    """One process a GPU; a requeued job goes on with both."""
    (project.folder / "ours.yaml").write_text("pretrain: {gpus: 2, cpus_per_gpu: 1}")
    run = project.run_of("pretrain")
    target = f"results/pretrain/{run.id}/done.json"
    driver = project.start("cluster-generic", target, site="ours.yaml")
    driver.until(lambda: project.steps(run) >= 1, "the first step")
    job = only_job(slurm)
    shown = slurm.command("scontrol", "show", "job", job)
    assert "gpu:2" in shown or "gpu=2" in shown  # versions of Slurm differ
    slurm.command("scontrol", "requeue", job)
    start_again(slurm, driver, job)
    assert driver.wait() == 0, driver.report()
    first, *_, last = read_attempts(project.path(run))
    assert (first.processes, first.outcome) == (2, "saved")
    assert (last.processes, last.outcome) == (2, "done")


def test_node_lost(project: Project, slurm: Slurm, uninterrupted: bytes, record: Record) -> None:
    """The node dies with its jobs; they run again when it is back, from their saved state."""
    run, driver = pretrain(project, "cluster-generic", "campaign.execution.save_minutes=0")
    job, begin, steps = only_job(slurm), time.time(), project.steps(run)
    slurm.kill_node()
    slurm.command("scontrol", "update", f"NodeName={slurm.host}", "State=down", "Reason=test")
    driver.until(lambda: slurm.jobs("PENDING", "%i") == [job], "the job waits again")
    slurm.start_node()
    slurm.command("scontrol", "update", f"JobId={job}", "StartTime=now")
    assert finished(project, run, driver) == uninterrupted
    assert "resumed at step" in (project.path(run) / "log.txt").read_text()
    record(project.recovery(run, begin, steps))

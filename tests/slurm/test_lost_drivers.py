"""Pretrainings on a real scheduler whose Snakemake or time ends: as uninterrupted ones."""

import os
import signal
import time

import pytest
from long_run import Record, finished, only_job, pretrain, seconds_left, start, start_again
from project import EXECUTORS, Project
from scheduler import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]  # its waits are bounded, too


@pytest.mark.parametrize("executor", EXECUTORS)
def test_driver_killed(
    project: Project, slurm: Slurm, uninterrupted: bytes, executor: str, record: Record
) -> None:
    """kill -9 of Snakemake; the same command goes on, without --unlock or any other help."""
    run, driver = pretrain(project, executor)
    job, begin, steps = only_job(slurm), time.time(), project.steps(run)
    driver.kill()
    assert slurm.jobs("RUNNING", "%i") == [job]
    again = start(project, executor, run)
    assert finished(project, run, again) == uninterrupted
    assert "its locks here" in again.output
    if executor == "slurm":  # the executor cannot take jobs over: cancelled, saved, resumed
        assert f"left jobs {job}; they are cancelled" in again.output
        record(project.recovery(run, begin, steps))
    else:
        assert f"left jobs {job}; they are taken over" in again.output
        assert slurm.jobs(form="%i")[-1] == job, "no second job"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_time_limit(
    project: Project, slurm: Slurm, uninterrupted: bytes, executor: str, record: Record
) -> None:
    """The limit comes before the run's end: it saves, queues itself again, and no retry is used.

    The training process is held, so that a fast machine does not finish within the minute.
    """
    run, driver = pretrain(project, executor, "campaign.resources.pretrain.minutes=1")
    job = only_job(slurm)
    trainers = slurm.processes(job, f"pretrain {run.id}")
    assert trainers
    for pid in trainers:
        os.kill(pid, signal.SIGSTOP)
    slurm.wait(lambda: seconds_left(slurm, job) <= 8, "the last seconds")
    begin, steps = time.time(), project.steps(run)
    for pid in trainers:
        os.kill(pid, signal.SIGCONT)
    start_again(slurm, driver, job)
    assert "Trying to restart job" not in driver.output
    assert slurm.jobs(form="%i")[-1] == job, "no second job"
    assert finished(project, run, driver) == uninterrupted
    log = (project.path(run) / "log.txt").read_text()
    assert "stopped at step" in log
    assert "resumed at step" in log
    record(project.recovery(run, begin, steps))

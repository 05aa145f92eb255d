"""Pretrainings on a real scheduler that lose their job, node or driver: as uninterrupted ones."""

import os
import signal
import time
from collections.abc import Callable

import pytest
from project import EXECUTORS, Driver, Project
from scheduler import Slurm

from cp2.plan.graph import Run
from cp2.record.attempts import read_attempts

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]  # its waits are bounded, too
Record = Callable[[dict[str, float]], None]
LONG = ("campaign.epochs={200: 30}",)  # 240 steps: time enough to be interrupted


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Record:
    """Keeps figures for the summary at the end."""

    def keep(figures: dict[str, float]) -> None:
        for name, value in figures.items():
            record_property(name, value)

    return keep


@pytest.fixture(scope="session")
def uninterrupted(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the long pretraining, made in one go without a scheduler."""
    project = prepared.copy(tmp_path_factory.mktemp("reference") / "project")
    run = project.run_of("pretrain", *LONG)
    words = [word for text in LONG for word in ("--set", text)]
    done = project.cp2("pretrain", run.id, "--campaign", "campaign.yaml", *words)
    assert done.returncode == 0, done.stderr
    return (project.path(run) / "model.safetensors").read_bytes()


def _pretrain(project: Project, executor: str, *more: str) -> tuple[Run, Driver]:
    """Start the long pretraining and wait until it is under way."""
    run = project.run_of("pretrain", *LONG)
    driver = _again(project, executor, run, *more)
    driver.until(lambda: project.steps(run) >= 10, "the 10th step")
    return run, driver


def _again(project: Project, executor: str, run: Run, *more: str) -> Driver:
    return project.start(
        executor, f"results/pretrain/{run.id}/done.json", assignments=[*LONG, *more]
    )


def _finished(project: Project, run: Run, driver: Driver) -> bytes:
    assert driver.wait() == 0, driver.report()
    return (project.path(run) / "model.safetensors").read_bytes()


def _only_job(slurm: Slurm) -> str:
    jobs = slurm.jobs("RUNNING", "%i")
    assert len(jobs) == 1, slurm.jobs()
    return jobs[0]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_requeued_in_the_middle(
    project: Project, slurm: Slurm, uninterrupted: bytes, executor: str, record: Record
) -> None:
    run, driver = _pretrain(project, executor)
    job, begin, steps = _only_job(slurm), time.time(), project.steps(run)
    slurm.command("scontrol", "requeue", job)
    _start_again(slurm, driver, job)
    assert 10 <= project.steps(run) < 240
    assert _finished(project, run, driver) == uninterrupted
    record(project.recovery(run, begin, steps))


def _start_again(slurm: Slurm, driver: Driver, job: str) -> None:
    """Slurm keeps a requeued job back for two minutes; not so here. Once more is enough."""
    driver.until(lambda: slurm.jobs("PENDING", "%i") == [job], "the job waits again")
    slurm.command("scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=20")


def test_two_gpus_two_processes(project: Project, slurm: Slurm) -> None:
    """One process a GPU; a requeued job goes on with both."""
    (project.folder / "ours.yaml").write_text("pretrain: {gpus: 2, cpus_per_gpu: 1}")
    run = project.run_of("pretrain")
    target = f"results/pretrain/{run.id}/done.json"
    driver = project.start("cluster-generic", target, site="ours.yaml")
    driver.until(lambda: project.steps(run) >= 1, "the first step")
    job = _only_job(slurm)
    shown = slurm.command("scontrol", "show", "job", job)
    assert "gpu:2" in shown or "gpu=2" in shown  # versions of Slurm differ
    slurm.command("scontrol", "requeue", job)
    _start_again(slurm, driver, job)
    assert driver.wait() == 0, driver.report()
    first, *_, last = read_attempts(project.path(run))
    assert (first.processes, first.outcome) == (2, "saved")
    assert (last.processes, last.outcome) == (2, "done")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_driver_killed(
    project: Project, slurm: Slurm, uninterrupted: bytes, executor: str, record: Record
) -> None:
    """kill -9 of Snakemake; the same command goes on, without --unlock or any other help."""
    run, driver = _pretrain(project, executor)
    job, begin, steps = _only_job(slurm), time.time(), project.steps(run)
    driver.kill()
    assert slurm.jobs("RUNNING", "%i") == [job]
    again = _again(project, executor, run)
    assert _finished(project, run, again) == uninterrupted
    assert "its locks here" in again.output
    if executor == "slurm":  # the executor cannot take jobs over: cancelled, saved, resumed
        assert f"left jobs {job}; they are cancelled" in again.output
        record(project.recovery(run, begin, steps))
    else:
        assert f"left jobs {job}; they are taken over" in again.output
        assert slurm.jobs(form="%i")[-1] == job, "no second job"


def test_node_lost(project: Project, slurm: Slurm, uninterrupted: bytes, record: Record) -> None:
    """The node dies with its jobs; they run again when it is back, from their saved state."""
    run, driver = _pretrain(project, "cluster-generic", "campaign.execution.save_minutes=0")
    job, begin, steps = _only_job(slurm), time.time(), project.steps(run)
    slurm.kill_node()
    slurm.command("scontrol", "update", f"NodeName={slurm.host}", "State=down", "Reason=test")
    driver.until(lambda: slurm.jobs("PENDING", "%i") == [job], "the job waits again")
    slurm.start_node()
    slurm.command("scontrol", "update", f"JobId={job}", "StartTime=now")
    assert _finished(project, run, driver) == uninterrupted
    assert "resumed at step" in (project.path(run) / "log.txt").read_text()
    record(project.recovery(run, begin, steps))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_time_limit(
    project: Project, slurm: Slurm, uninterrupted: bytes, executor: str, record: Record
) -> None:
    """The limit comes before the run's end: it saves, queues itself again, and no retry is used.

    The training process is held, so that a fast machine does not finish within the minute.
    """
    run, driver = _pretrain(project, executor, "campaign.resources.pretrain.minutes=1")
    job = _only_job(slurm)
    trainers = slurm.processes(job, f"pretrain {run.id}")
    assert trainers
    for pid in trainers:
        os.kill(pid, signal.SIGSTOP)
    slurm.wait(lambda: _seconds_left(slurm, job) <= 8, "the last seconds")
    begin, steps = time.time(), project.steps(run)
    for pid in trainers:
        os.kill(pid, signal.SIGCONT)
    _start_again(slurm, driver, job)
    assert "Trying to restart job" not in driver.output
    assert slurm.jobs(form="%i")[-1] == job, "no second job"
    assert _finished(project, run, driver) == uninterrupted
    log = (project.path(run) / "log.txt").read_text()
    assert "stopped at step" in log
    assert "resumed at step" in log
    record(project.recovery(run, begin, steps))


def _seconds_left(slurm: Slurm, job: str) -> int:
    """0:37 of squeue."""
    minutes, _, seconds = slurm.command("squeue", "-h", "-j", job, "-o", "%L").partition(":")
    return 60 * int(minutes) + int(seconds)

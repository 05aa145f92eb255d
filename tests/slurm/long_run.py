"""The pretraining that is interrupted: time enough for it, and its weights at the end."""

from collections.abc import Callable

from project import Driver, Project
from scheduler import Slurm

from cp2.plan.graph import Run

Record = Callable[[dict[str, float]], None]
LONG = ("campaign.epochs={200: 30}",)  # 240 steps


def pretrain(project: Project, executor: str, *more: str) -> tuple[Run, Driver]:
    """Start the long pretraining and wait until it is under way."""
    run = project.run_of("pretrain", *LONG)
    driver = start(project, executor, run, *more)
    driver.until(lambda: project.steps(run) >= 10, "the 10th step")
    return run, driver


def start(project: Project, executor: str, run: Run, *more: str) -> Driver:
    return project.start(
        executor, f"results/pretrain/{run.id}/done.json", assignments=[*LONG, *more]
    )


def finished(project: Project, run: Run, driver: Driver) -> bytes:
    assert driver.wait() == 0, driver.report()
    return (project.path(run) / "model.safetensors").read_bytes()


def only_job(slurm: Slurm) -> str:
    jobs = slurm.jobs("RUNNING", "%i")
    assert len(jobs) == 1, slurm.jobs()
    return jobs[0]


def start_again(slurm: Slurm, driver: Driver, job: str) -> None:
    """Slurm keeps a requeued job back for two minutes; not so here. Once more is enough."""
    driver.until(lambda: slurm.jobs("PENDING", "%i") == [job], "the job waits again")
    slurm.command("scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=20")


def seconds_left(slurm: Slurm, job: str) -> int:
    """Until a job's time limit; 0:37 of squeue."""
    minutes, _, seconds = slurm.command("squeue", "-h", "-j", job, "-o", "%L").partition(":")
    return 60 * int(minutes) + int(seconds)

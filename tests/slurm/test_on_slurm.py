"""The workflow on a real scheduler: a table, and what is refused before a job is submitted."""

import pytest
from project import EXECUTORS, Project
from scheduler import Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]  # its waits are bounded, too


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_table_through_the_scheduler(project: Project, executor: str) -> None:
    driver = project.start(executor, "table_cp2_deeplabv3")
    assert driver.wait() == 0, driver.report()
    assert (project.folder / "reports/campaign/tables/cp2_deeplabv3.md").is_file()


def test_driver_killed_and_its_job_done_meanwhile(project: Project, slurm: Slurm) -> None:
    """What was finished while no Snakemake lived is not made again."""
    run = project.run_of("pretrain")
    target = f"results/pretrain/{run.id}/done.json"
    driver = project.start("slurm", target)
    driver.until(lambda: project.steps(run) >= 1, "the first step")
    driver.kill()
    slurm.wait(lambda: not slurm.jobs("RUNNING,COMPLETING"), "the job's end")
    done = project.path(run) / "done.json"
    before = done.stat()
    again = project.start("slurm", target)
    assert again.wait() == 0, again.report()
    assert done.stat() == before
    assert "Nothing to be done" in again.output


@pytest.mark.parametrize(
    ("executor", "site", "message"),
    [
        ("slurm", "pretrain: {gpus: 4}", "pretrain: gpus: 4 GPUs on one node"),
        ("cluster-generic", "pretrain: {gpus: 4}", "pretrain: gpus: 4 GPUs on one node"),
        ("slurm", "all: {partition: gpu}", "partition 'gpu' does not exist; allowed: short, test"),
        ("slurm", "all: {constraint: h100}", "no node has the feature 'h100'; allowed: none"),
        ("cluster-generic", 'all: {extra: "--clusters=x --qqos=y"}', "unrecognized option"),
    ],
)
def test_jobs_that_can_never_run_are_not_submitted(
    project: Project, slurm: Slurm, executor: str, site: str, message: str
) -> None:
    (project.folder / "ours.yaml").write_text(site)
    before = slurm.jobs(form="%i")
    driver = project.start(executor, "table_cp2_deeplabv3", site="ours.yaml")
    assert driver.wait() == 1, driver.report()
    assert message in driver.output
    assert "Traceback" not in driver.output
    assert set(slurm.jobs(form="%i")) <= set(before), "no new job; Slurm forgets old ones"
    doctor = project.cp2("doctor", "--campaign", "campaign.yaml", "--site", "ours.yaml")
    assert doctor.returncode == 1
    assert message in doctor.stdout


def test_doctor_finds_a_good_site_good(project: Project) -> None:
    site = "all: {partition: test, gpus: 2, gpu_model: test, cpus_per_gpu: 2, mem_mb: 3000}"
    (project.folder / "ours.yaml").write_text(site)
    done = project.cp2("doctor", "--campaign", "campaign.yaml", "--site", "ours.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pretrain: sbatch --nodes=1 --cpus-per-task=4 --mem=3000 --time=20" in done.stdout

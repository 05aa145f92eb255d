"""The driver sleeps between jobs: Snakemake looks for work when one has ended, and only then."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.settings.types import MaxJobsPerTimespan

from cp2.cluster.driver import rest_between_jobs

JOBS = 6
SNAKEFILE = """
from snakemake.scheduling.job_scheduler import JobScheduler

from cp2.cluster.driver import rest_between_jobs

selector = JobScheduler.job_selector


def counted(self, jobs):
    with open("rounds", "a") as file:
        file.write("round\\n")
    return selector(self, jobs)


JobScheduler.job_selector = counted

onstart:
    if config["rest"]:
        rest_between_jobs(workflow)

rule all:
    input: [f"{number}.txt" for number in range(JOBS)]

rule one:
    output: "{number}.txt"
    shell: "sleep 1.1; touch {output}"
"""


def test_a_limit_that_was_asked_for_stays() -> None:
    kept, default = (MaxJobsPerTimespan.parse_choice(text) for text in ("2/1m", "100/1s"))
    for limit, expected in ((kept, "limiter"), (default, None)):
        workflow = SimpleNamespace(
            scheduling_settings=SimpleNamespace(max_jobs_per_timespan=limit),
            scheduler=SimpleNamespace(job_rate_limiter="limiter"),
        )
        rest_between_jobs(workflow)
        assert workflow.scheduler.job_rate_limiter == expected


@pytest.mark.parametrize("rest", [True, False])
def test_rounds_do_not_grow_with_the_jobs(tmp_path: Path, rest: bool) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("JOBS", str(JOBS)))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all"]
    subprocess.run([*command, "--config", f"rest={rest}"], cwd=tmp_path, check=True)
    rounds = len((tmp_path / "rounds").read_text().splitlines())
    most = 2 * (JOBS + 1)  # a job that ends is looked at twice at most
    if rest:
        assert rounds <= most
    else:
        assert rounds > most, "Snakemake has learnt to wait: rest_between_jobs is no longer needed"

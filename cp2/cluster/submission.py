"""What is done once before Snakemake submits its first job."""

import os
import shutil
from pathlib import Path
from typing import Any

from cp2.cluster.commands import ask
from cp2.cluster.driver import adopt_left_jobs, end_left_jobs
from cp2.cluster.validate_request import validate_requests
from cp2.errors import UserError
from cp2.plan.workflow import Workflow
from cp2.stages import ON_CLUSTER


def before_submission(plan: Workflow, snakemake: Any) -> None:
    """Check the requests of all stages that have runs to make; see to jobs that were left.

    From here on `sbatch` is the one of workflow/scripts/patient, which outwaits a controller that
    does not answer.

    Args:
        snakemake: Snakemake's workflow, about to start; with a local executor nothing is done.
    Raises:
        UserError: the cluster cannot run a stage's jobs; the state of jobs cannot be asked for;
            left jobs do not end.
    """
    executor = snakemake.executor_plugin
    if not executor.common_settings.non_local_exec:
        return
    results = plan.configuration.results
    unfinished = [run for run in plan.plan.runs.values() if not run.is_done(results)]
    stages = [stage for stage in ON_CLUSTER if any(run.stage == stage for run in unfinished)]
    validate_requests(map(plan.request, stages), plan.site_name)
    patient = Path(snakemake.main_snakefile).parent / "workflow" / "scripts" / "patient"
    os.environ["PATH"] = f"{patient.absolute()}{os.pathsep}{os.environ['PATH']}"
    if executor.name == "cluster-generic":
        adopt_left_jobs(snakemake.dag.needrun_jobs())
    if executor.name == "slurm":
        if snakemake.executor_settings.status_command == "sacct" and not accounting_answers():
            raise UserError(
                "this cluster's accounting (sacct) does not answer, so the end of a job would "
                "never be noticed; add --slurm-status-command squeue"
            )
        end_left_jobs({run.id: run.folder(results) for run in unfinished})


def accounting_answers() -> bool:
    """Whether sacct is there and has a database to ask."""
    return shutil.which("sacct") is not None and ask("sacct", "--noheader", "-X") is not None

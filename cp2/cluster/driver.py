"""The Snakemake that submits jobs: what it checks first, and what a killed one left behind."""

import fcntl
import os
import shutil
import socket
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from cp2.cluster.commands import ask
from cp2.cluster.validate_request import executor_misfit, validate_requests
from cp2.errors import UserError, WrongFile
from cp2.plan.workflow import Workflow
from cp2.record.attempts import read_attempts
from cp2.record.files import append_to
from cp2.record.folder import RunFolder
from cp2.record.kept import FOLDER, forget
from cp2.stages import ON_CLUSTER, STAGES

SNAKEMAKES_LIMIT = (100, 1)  # job starts, seconds: what it does where nobody asked for a limit
WAIT_SECONDS = 120.0  # for cancelled jobs to save and end; Slurm's KillWait is 30 by default


def hold_folder(snakemake_folder: Path) -> IO[str] | None:
    """Mark this process as a living driver, and remove the locks that dead ones left.

    Snakemake's own locks name no process, so a killed Snakemake locks the folder until
    `--unlock`. Here every driver holds a shared flock for as long as it lives: whoever gets it
    alone knows that all of Snakemake's locks are stale. Drivers of other hosts are left alone,
    because not every file system carries flock from host to host.

    Args:
        snakemake_folder: `.snakemake` of the working directory.
    Returns:
        The file whose lock lasts until it is closed; None where the file system has no flock.
    """
    snakemake_folder.mkdir(exist_ok=True)
    file = TextIOWrapper(append_to(snakemake_folder / "driver"), encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass  # another driver lives; Snakemake's locks say whether both may run
    except OSError:
        file.close()
        return None
    else:
        file.seek(0)
        hosts = {line.split()[0] for line in file.read().splitlines() if line.strip()}
        locks = sorted(snakemake_folder.glob("locks/*.lock"))
        if hosts <= {socket.gethostname()}:
            _remove(locks)
        if hosts <= {socket.gethostname()} or not locks:
            file.truncate(0)
    fcntl.flock(file, fcntl.LOCK_SH)
    file.write(f"{socket.gethostname()} {os.getpid()}\n")
    file.flush()
    return file


def _remove(locks: Sequence[Path]) -> None:
    for lock in locks:
        lock.unlink(missing_ok=True)
    if locks:
        print("a killed Snakemake left its locks here; they are removed", file=sys.stderr)


def rest_between_jobs(snakemake: Any) -> None:
    """Let Snakemake look for jobs to start only when one has ended.

    Its limit of 100 job starts a second, which nothing here comes near, has it look again one
    second after each look, once more for every job that has ended: after some hundred jobs the
    driver takes a core, and asks the file system for every open input each time (Snakemake 9.27,
    `JobScheduler.schedule`; there is no option without a limit).

    Args:
        snakemake: Snakemake's workflow, about to start. A limit that the user gave stays.
    """
    limit = getattr(snakemake.scheduling_settings, "max_jobs_per_timespan", None)
    if (getattr(limit, "max_jobs", None), getattr(limit, "timespan", None)) == SNAKEMAKES_LIMIT:
        snakemake.scheduler.job_rate_limiter = None


def give_up_on_final_errors(plan: Workflow, snakemake: Any) -> None:
    """Let Snakemake try no job again whose run failed for what only the user can mend.

    Its `retries` are for what may pass: with ten, a wrong setting would fail eleven times. The run
    itself says which it was (attempts.jsonl), whatever executor it ran on. Snakemake 9.27 decides
    in `JobScheduler._handle_error`, by the job's attempt; there is no option.

    Args:
        snakemake: Snakemake's workflow, about to start.
    """
    scheduler, begin = snakemake.scheduler, time.time()
    handle = scheduler._handle_error

    def handle_error(job: Any, *arguments: Any, **options: Any) -> None:
        stage, run = STAGES.get(job.rule.name), getattr(job.wildcards, "run", None)
        if stage and run:
            folder = stage.run_folder(Path(plan.results), run).path
            with suppress(WrongFile):
                last = ([None, *read_attempts(folder)])[-1]
                # records are cut to a millisecond: one made at once may seem older than `begin`
                if last and last.final and (last.ended or 0) + 0.001 > begin:
                    job.attempt = job.restart_times + 1
        handle(job, *arguments, **options)

    scheduler._handle_error = handle_error


def left_jobs(run_ids: Collection[str]) -> dict[str, str]:
    """Jobs of this user and this folder that a killed driver left in the queue.

    Ask while holding Snakemake's lock on the runs' outputs: then no other driver waits for them.

    Args:
        run_ids: the runs whose jobs are meant.
    Returns:
        Job id -> run id.
    """
    answer = ask("squeue", "--me", "--noheader", "--format=%i|%Z|%k")
    return {} if answer is None else parse_left_jobs(answer.splitlines(), Path.cwd(), run_ids)


def parse_left_jobs(lines: Sequence[str], folder: Path, run_ids: Collection[str]) -> dict[str, str]:
    """Read lines of `squeue --format=%i|%Z|%k`: id, working directory, comment.

    Both profiles submit with the comment "rule_<rule>_wildcards_<run id>".
    """
    found = {}
    for line in lines:
        job, _, rest = line.partition("|")
        place, _, comment = rest.partition("|")
        run = comment.partition("_wildcards_")[2]
        if comment.startswith("rule_") and run in run_ids and Path(place) == folder:
            found[job] = run
    return found


def end_left_jobs(runs: Mapping[str, RunFolder]) -> list[str]:
    """Cancel left jobs: the Slurm executor cannot take them over, and beside a second job on the
    same run they would only refuse each other. A cancelled job saves its state, and the new one
    goes on from it.

    Args:
        runs: run id -> folder of the runs that are to be made.
    Returns:
        The jobs' ids.
    Raises:
        UserError: they do not end.
    """
    left = left_jobs(runs)
    if not left:
        return []
    print(f"a killed Snakemake left jobs {', '.join(left)}; they are cancelled", file=sys.stderr)
    ask("scancel", *left)
    end = time.monotonic() + WAIT_SECONDS
    while still := sorted({*(left_jobs(runs).keys() & left), *_holding(left, runs)}):
        if time.monotonic() > end:
            raise UserError(
                f"jobs {', '.join(still)} of a killed Snakemake do not end; see "
                f"`squeue --jobs={','.join(still)}`, cancel them, then start again"
            )
        time.sleep(1)
    return list(left)


def _holding(jobs: Mapping[str, str], runs: Mapping[str, RunFolder]) -> Iterator[str]:
    """Those that have left the queue while a process of theirs still saves."""
    for job, run in jobs.items():
        holder = runs[run].holder()
        if holder and holder.owner.job == job:
            yield job


def adopt_left_jobs(jobs: Iterable[Any]) -> list[str]:
    """Give left jobs back to Snakemake, which then waits for them instead of submitting new ones.

    Snakemake itself forgets the id of a job as soon as the job has started.

    Args:
        jobs: Snakemake's jobs that are to be made.
    Returns:
        The left jobs' ids.
    """
    named = {getattr(job.wildcards, "run", None): job for job in jobs}
    by_run = {str(run): job for run, job in named.items() if run is not None}
    left = left_jobs(by_run)
    for job_id, run in left.items():
        by_run[run].register(external_jobid=job_id)
    if left:
        print(
            f"a killed Snakemake left jobs {', '.join(left)}; they are taken over", file=sys.stderr
        )
    return list(left)


def forget_kept(plan: Workflow, dag: Any) -> None:
    """Of runs that are asked for again, as by --forcerun: give up what was kept of them.

    A run that is made because its files are missing may have been finished by another process,
    also since Snakemake looked: its job is to find what was kept.

    Args:
        dag: Snakemake's, with the jobs that are to be made.
    """
    results = plan.configuration.results
    for job in dag.needrun_jobs():
        run = plan.plan.runs.get(f"{job.rule.name}/{getattr(job.wildcards, 'run', '')}")
        if run and not dag.reason(job).missing_output:
            forget(run.folder(results).path / FOLDER)


def name_holders(runs: Mapping[str, RunFolder]) -> None:
    """Say which runs other processes work on; their jobs wait for these.

    Args:
        runs: key -> folder of the runs that are to be made.
    """
    for key, folder in runs.items():
        if held := folder.holder():
            print(
                f"{held.owner} works on {key}: its job waits for that process. To take over what "
                f"it has saved, end it ({held.owner.how_to_end()})",
                file=sys.stderr,
            )


def forget_empty(plan: Workflow) -> None:
    """Remove final files without a byte, as a crash of the file system leaves: for Snakemake, which
    looks at names only, their runs would be done. A dry run removes them, too, to tell the truth.
    """
    for run in plan.plan.runs.values():
        for path in run.outputs(plan.configuration.results).values():
            with suppress(OSError):
                if not path.stat().st_size:
                    path.unlink()
                    print(f"{path} was empty: {run.key} is made again", file=sys.stderr)


def before_submission(plan: Workflow, snakemake: Any) -> None:
    """Check the requests of all stages that have runs to make; see to jobs and processes that were
    left.

    From here on `sbatch` is the one of workflow/scripts/patient, which outwaits a controller that
    does not answer.

    Args:
        snakemake: Snakemake's workflow, about to start.
    Raises:
        UserError: the cluster cannot run a stage's jobs; the state of jobs cannot be asked for;
            left jobs do not end.
    """
    executor = snakemake.executor_plugin
    results = plan.configuration.results
    unfinished = [run for run in plan.plan.runs.values() if not run.is_done(results)]
    forget_kept(plan, snakemake.dag)
    if wrong := plan.misfits(snakemake.dag.needrun_jobs()):
        raise UserError("\n  ".join(["no job is started:", *wrong]))
    if not executor.common_settings.non_local_exec:
        name_holders({run.key: run.folder(results) for run in unfinished})
        return
    stages = [stage for stage in ON_CLUSTER if any(run.stage == stage for run in unfinished)]
    requests = list(map(plan.request, stages))
    validate_requests(requests, plan.site_name)
    if problem := executor_misfit(executor.name, requests, Path.cwd()):
        raise UserError(problem)
    patient = Path(snakemake.main_snakefile).parent / "workflow" / "scripts" / "patient"
    os.environ["PATH"] = f"{patient.absolute()}{os.pathsep}{os.environ['PATH']}"
    if executor.name == "cluster-generic":
        adopt_left_jobs(snakemake.dag.needrun_jobs())
    if executor.name == "slurm":
        if snakemake.executor_settings.status_command == "sacct" and not accounting_answers():
            print("sacct does not answer; squeue is asked how jobs end", file=sys.stderr)
            snakemake.executor_settings.status_command = "squeue"
        end_left_jobs({run.id: run.folder(results) for run in unfinished})


def accounting_answers() -> bool:
    """Whether sacct is there and has a database to ask."""
    return shutil.which("sacct") is not None and ask("sacct", "--noheader", "-X") is not None

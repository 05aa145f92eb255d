"""Slurm's own commands, asked without waiting for ever."""

import getpass
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

REQUEUE = "CP2_REQUEUE"  # set by the Snakefile in jobs of a scheduler, and there only
SECONDS = 20.0  # a busy controller answers in a few


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Attributes:
        output: its standard output.
        problem: why there is no answer, as the end of a sentence; None where there is one.
        errors: its standard error.
    """

    output: str
    problem: str | None = None
    errors: str = ""


def answer(*command: str, environment: Mapping[str, str] | None = None) -> Answer:
    """Run a command.

    Args:
        environment: variables that differ from this process'.
    """
    name = command[0]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            env=os.environ | (environment or {}),
        )
    except FileNotFoundError:
        return Answer("", f"{name} is not on this machine")
    except subprocess.TimeoutExpired:
        return Answer("", f"{name} did not answer in {SECONDS:.0f} s")
    except OSError as error:
        return Answer("", f"{name} cannot be started: {error.strerror}")
    if done.returncode == 0:
        return Answer(done.stdout, None, done.stderr)
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return Answer(done.stdout, f"{name} failed: {said[:200]}", done.stderr)


def ask(*command: str) -> str | None:
    """Standard output of a command, or None where it is absent, fails or does not answer."""
    found = answer(*command)
    return None if found.problem else found.output


def this_user() -> str:
    """Name of this user; the number where the system knows no name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def requeue_this_job() -> str | None:
    """Tell Slurm to start this batch job again under the same id, from its beginning.

    A job that saved its state does so, because retries are for failures: a pretraining may need
    31 jobs at the paper's limit of two days. A job that is being cancelled is left alone.

    Returns:
        What happened, in one line; None outside of a Slurm job.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    state = (ask("squeue", "--noheader", f"--jobs={job}", "--format=%T") or "").strip()
    if state != "RUNNING":
        return f"job {job} is not queued again: its state is {state or 'not known'}"
    if ask("scontrol", "requeue", job) is None:
        return f"Slurm does not queue job {job} again; a retry of Snakemake goes on with the run"
    return f"job {job} is queued again and goes on from here"

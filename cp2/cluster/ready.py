"""Keeps a starter (`cp2.cli.starter`) beside a Snakemake that runs its jobs on this machine."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

# One thread: a process with several cannot be forked safely. Jobs set their own number.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LEAST_JOBS = 4  # its own start-up is that of one job
_KEPT: list[subprocess.Popen[bytes]] = []  # their input ends with this process, and so do they


def start_command(project: Path, socket: Path) -> list[str]:
    """What runs `cp2` by way of the starter at this socket, or itself where there is none."""
    script = project / "workflow" / "scripts" / "start"
    return [sys.executable, "-SE", str(script), str(socket), sys.executable]


def get_ready(snakemake: Any, socket: Path) -> None:
    """Start a starter if several jobs are to be run on this machine.

    Args:
        snakemake: Snakemake's workflow, about to start.
        socket: where requests are to be sent; a short name that no other process has.
    """
    if snakemake.executor_plugin.common_settings.non_local_exec:
        return
    if sum(1 for _ in snakemake.dag.needrun_jobs()) < LEAST_JOBS:
        return
    environment = os.environ | dict.fromkeys(THREADS, "1")
    command = [sys.executable, "-m", "cp2.cli.starter", str(socket)]
    _KEPT.append(
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, start_new_session=True)
    )

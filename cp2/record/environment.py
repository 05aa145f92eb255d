"""Where and with what a run was made."""

import os
import platform
import socket
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from cp2.redaction import without_secrets

LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow", "safetensors")


def describe_environment(device: str) -> dict[str, str | bool | None]:
    """Commit, versions, host and device. Names single variables only: never a dump (tokens)."""
    commit, dirty = code_state()
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "device": device,
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "command": " ".join(without_secrets(sys.argv)),
        **{name: _version(name) for name in LIBRARIES},
    }


@cache
def code_state() -> tuple[str | None, bool | None]:
    """Commit of the code that this process runs, and whether it was changed since; asked once."""
    commit = _git("rev-parse", "HEAD")
    return commit, bool(_git("status", "--porcelain")) if commit else None


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

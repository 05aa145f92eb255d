"""A job that queues itself again, beside a Slurm of two commands."""

import os
from pathlib import Path

import pytest

from cp2.cluster.commands import requeue_this_job


@pytest.mark.parametrize(
    ("state", "scontrol", "said", "asked"),
    [
        ("RUNNING", "", "job 17 is queued again", True),
        ("RUNNING", "exit 1", "Slurm does not queue job 17 again; a retry", True),
        ("COMPLETING", "", "job 17 is not queued again: its state is COMPLETING", False),  # scancel
        ("", "", "its state is not known", False),
    ],
)
def test_in_a_job(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    scontrol: str,
    said: str,
    asked: bool,
) -> None:
    lines = {"squeue": f"echo {state}", "scontrol": f'echo "$@" > {tmp_path}/asked; {scontrol}'}
    for name, line in lines.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert said in str(requeue_this_job())
    assert (tmp_path / "asked").exists() == asked
    assert not asked or (tmp_path / "asked").read_text() == "requeue 17\n"


def test_outside_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert requeue_this_job() is None

"""When a training that saved and stopped asks Slurm to queue its job again."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from cp2.cli import training
from cp2.training.clock import RESUME_EXIT_CODE, Deadline, StoppedForResumeError


@pytest.mark.parametrize(
    ("requeue", "max_minutes", "stopped_by", "queued"),
    [
        (True, None, "the scheduler's end", True),
        (False, None, "the scheduler's end", False),
        (True, 5.0, "--max-minutes", False),
        (True, None, "a signal here", False),
        (True, None, "a signal to the launcher", False),
    ],
)
def test_only_where_the_time_is_up(
    monkeypatch: pytest.MonkeyPatch,
    requeue: bool,
    max_minutes: float | None,
    stopped_by: str,
    queued: bool,
) -> None:
    for name in ("CP2_RANK", "CP2_NODES", "WORLD_SIZE", "SLURM_JOB_ID", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(name, raising=False)
    asked = []

    def hold(
        stage: str, run: Any, results: Path, execution: Any, deadline: Deadline, *_: Any
    ) -> None:
        if stopped_by == "a signal here":
            deadline._on_signal(signal.SIGTERM, None)
        raise StoppedForResumeError("saved", signalled=stopped_by == "a signal to the launcher")

    monkeypatch.setattr(training, "_hold", hold)
    monkeypatch.setattr(training, "requeue_this_job", lambda: asked.append("queued"))
    campaign = SimpleNamespace(campaign=SimpleNamespace(execution=None), results=None)
    options: Any = SimpleNamespace(
        find=lambda *_: (campaign, None), max_minutes=max_minutes, requeue=requeue
    )
    with pytest.raises(typer.Exit) as caught:
        training._train("pretrain", "any", options)
    assert caught.value.exit_code == RESUME_EXIT_CODE
    assert asked == ["queued"] * queued

"""`cp2 pretrain --processes 2` as a scheduler sees it: a death, a signal, a resume."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from campaigns import with_photos
from PIL import Image

from cp2.plan.graph import Run
from cp2.record.attempts import read_attempts
from cp2.record.metrics import read_metrics
from cp2.training.clock import RESUME_EXIT_CODE

CAMPAIGN = """
title: tiny
scale: demo
tables: [mini_segmentation]
epochs: {{200: 60, 20: 1}}
substitute: {{labelled: scenes, unlabelled: photos, resnet18: resnet-tiny, aspp-small: aspp-tiny}}
overrides:
  datasets:
    photos: {{kind: images, title: noise, root: {root}}}
    scenes: {{kind: labelled, title: none, root: {root}, classes: camvid}}
  methods:
    moco-v2: {{views: {{crop_size: 32}}, batch_size: 8, bn_group_size: 2, queue_size: 8}}
execution: {{results: {root}/results, workers: 0, log_every: 1, save_minutes: 0}}
"""


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[Path, Path, Run]:
    """A campaign's file, its results and its pretraining, on eight noise pictures."""
    rng = np.random.default_rng(0)
    for i in range(8):
        pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    file = tmp_path / "tiny.yaml"
    file.write_text(CAMPAIGN.format(root=tmp_path))
    configuration, plan = with_photos(file)
    run = next(r for r in plan.stage("pretrain") if r.tags["method"] == "moco-v2")
    return file, configuration.results, run


def command(file: Path, run: Run, processes: int) -> list[str]:
    words = ["pretrain", run.id, "--campaign", str(file), "--processes", str(processes)]
    return [sys.executable, "-m", "cp2", *words]


@contextmanager
def started(words: list[str], metrics: Path, steps: int) -> Iterator["subprocess.Popen[str]"]:
    """The command, once it has done so many steps."""
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        while not (lines := read_metrics(metrics)) or lines[-1]["step"] < steps:
            assert running.poll() is None, running.communicate()[0]
            time.sleep(0.05)
        yield running


def members(launcher: int) -> list[int]:
    text = Path(f"/proc/{launcher}/task/{launcher}/children").read_text()
    return [int(pid) for pid in text.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_death_a_signal_and_another_number_of_processes(
    prepared: tuple[Path, Path, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CP2_DEVICE", "cpu")
    file, results, run = prepared
    folder = run.folder(results)
    with started(command(file, run, 2), folder.metrics, 2) as running:
        os.kill(members(running.pid)[1], signal.SIGKILL)
        output, _ = running.communicate()
        assert running.returncode == 2
        assert "process 1 of 2 failed: it was ended by SIGKILL" in output
        assert "2 process(es) on the CPU, because CP2_DEVICE=cpu" in output
    with started(command(file, run, 2), folder.metrics, 8) as running:
        running.send_signal(signal.SIGTERM)
        output, _ = running.communicate()
        assert running.returncode == RESUME_EXIT_CODE, output
        assert output.count("SIGTERM was received; start again to go on") == 1
    done = subprocess.run(command(file, run, 1), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line["step"] for line in read_metrics(folder.metrics)] == list(range(1, 61))
    attempts = read_attempts(folder.path)
    assert [(a.processes, a.outcome) for a in attempts] == [
        (2, "failed"),
        (2, "saved"),
        (1, "done"),
    ]
    assert "process 1 of 2" in str(attempts[0].error)

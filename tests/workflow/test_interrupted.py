"""Snakemake beside a run that another process works on, has finished, or that Ctrl-C stops."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from forked import Forked
from PIL import Image

from cp2.plan.build import build_plan
from cp2.record.attempts import read_attempts
from cp2.record.folder import RunFolder
from cp2.record.metrics import read_metrics
from cp2.settings.load import load_campaign

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "CP2_DEVICE": "cpu"}
WAITS = "works on pretrain/"
CAMPAIGN = """
title: tiny
scale: demo
tables: [mini_segmentation]
epochs: {200: 20, 20: 1}
substitute: {labelled: scenes, unlabelled: photos, resnet18: resnet-tiny, aspp-small: aspp-tiny}
overrides:
  datasets:
    photos: {kind: images, title: noise, root: photos}
    scenes: {kind: labelled, title: none, root: photos, classes: camvid}
  methods:
    moco-v2: {views: {crop_size: 32}, batch_size: 8, queue_size: 8}
execution: {workers: 1, log_every: 1}
"""


class Project:
    """A folder in which Snakemake makes one short pretraining."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "photos").mkdir()
        rng = np.random.default_rng(0)
        for i in range(8):
            pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"photos/{i}.png")
        (folder / "tiny.yaml").write_text(CAMPAIGN)
        plan = build_plan(load_campaign(str(folder / "tiny.yaml"), configs=folder / "configs"))
        run = next(r for r in plan.stage("pretrain") if r.tags["method"] == "moco-v2")
        self.run = RunFolder(folder / f"results/pretrain/{run.id}")

    def snakemake(self, *arguments: str) -> Forked:
        target = f"results/pretrain/{self.run.path.name}/done.json"
        words = ["--cores", "1", "--show-failed-logs", "--config", "campaign=tiny.yaml", "--"]
        return self._start("snakemake", *words[:-1], *arguments, "--", target)

    def by_hand(self) -> Forked:
        return self._start("cp2", "pretrain", self.run.path.name, "--campaign", "tiny.yaml")

    def _start(self, *words: str) -> Forked:
        """In a session of its own, as from a terminal."""
        return Forked(*words, cwd=self.folder, env=ENVIRONMENT, merged=True, session=True)

    def prepare(self) -> None:
        dataset = self._start("cp2", "dataset", "photos", "--campaign", "tiny.yaml")
        assert ended(dataset)[0] == 0

    def wait_for_step(self, step: int, process: Forked) -> None:
        while not (lines := read_metrics(self.run.metrics)) or lines[-1]["step"] < step:
            assert process.poll() is None, process.stdout
            time.sleep(0.02)

    @property
    def outcomes(self) -> list[str | None]:
        return [attempt.outcome for attempt in read_attempts(self.run.path)]


def ended(process: Forked) -> tuple[int, str]:
    return process.wait(), process.stdout


@pytest.fixture
def tiny(project: Path) -> Project:
    return Project(project)


def test_a_job_waits_for_the_process_that_a_killed_snakemake_left(tiny: Project) -> None:
    tiny.prepare()
    left = tiny.by_hand()
    tiny.wait_for_step(2, left)
    left.send_signal(signal.SIGSTOP)
    driver = tiny.snakemake()
    while not (said := [line for line in driver.stdout.splitlines() if WAITS in line]):
        assert driver.poll() is None, driver.stdout
        time.sleep(0.05)
    assert f"process {left.pid}" in said[0]
    left.send_signal(signal.SIGCONT)
    code, output = ended(driver)
    assert code == 0, output
    assert ended(left)[0] == 0
    assert tiny.outcomes == ["done"]  # trained once


def test_files_of_a_finished_run_that_snakemake_deleted_come_back(tiny: Project) -> None:
    tiny.prepare()
    assert ended(tiny.by_hand())[0] == 0
    model = tiny.run.model.read_bytes()
    # As at a job's turn, where the plan was made before another process finished the run.
    tiny.run.model.unlink()
    tiny.run.done.unlink()
    code, output = ended(tiny.snakemake())
    assert code == 0, output
    assert tiny.run.model.read_bytes() == model
    assert tiny.outcomes == ["done"]

    # Who asks for the run again gets it made again.
    code, output = ended(tiny.snakemake("--forcerun", "pretrain"))
    assert code == 0, output
    assert tiny.outcomes == ["done", "done"]
    assert tiny.run.model.read_bytes() == model

    # An empty file, as a crash of the file system leaves it, is none.
    tiny.run.done.write_bytes(b"")
    code, output = ended(tiny.snakemake())
    assert code == 0, output
    assert f"{tiny.run.done.relative_to(tiny.folder)} was empty" in output
    assert tiny.outcomes == ["done", "done", "done"]  # damaged under both names


def test_ctrl_c_saves(tiny: Project) -> None:
    driver = tiny.snakemake()
    tiny.wait_for_step(2, driver)
    os.killpg(driver.pid, signal.SIGINT)  # to all, as a terminal sends it
    code, output = ended(driver)
    assert code != 0
    attempt = read_attempts(tiny.run.path)[-1]
    assert attempt.outcome == "saved", output
    assert (attempt.step or 0) >= 2
    code, output = ended(tiny.snakemake())
    assert code == 0, output
    assert f"resumed at step {attempt.step}" in tiny.run.log.read_text()

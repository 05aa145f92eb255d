"""The commands as a user or a scheduler runs them: exit codes, messages, kills."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from PIL import Image

from cp2.cli import main as cli
from cp2.cli.app import PANELS
from cp2.models.weights import load_weights
from cp2.plan.build import build_plan
from cp2.plan.graph import Run
from cp2.record.attempts import read_attempts
from cp2.settings.load import load_campaign
from cp2.stages import STAGES

CAMPAIGN = """
title: tiny
scale: demo
tables: [mini_segmentation]
epochs: {{200: 6, 20: 1}}
substitute: {{labelled: scenes, unlabelled: photos, resnet18: resnet-tiny, aspp-small: aspp-tiny}}
overrides:
  datasets:
    photos: {{kind: images, title: noise, root: {root}/photos}}
    scenes: {{kind: labelled, title: none, root: {root}, classes: camvid}}
  methods:
    moco-v2: &small {{views: {{crop_size: 32}}, batch_size: 4, queue_size: 8}}
    cp2: *small
execution: {{results: {root}/results, workers: 0, log_every: 1, save_minutes: 0}}
"""


def _cp2(*arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run("cp2", *arguments)


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """A campaign file beside twelve noise pictures."""
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.jpg")
    file = tmp_path / "tiny.yaml"
    file.write_text(CAMPAIGN.format(root=tmp_path))
    return file


def _cp2_run(campaign: Path, *assignments: str) -> Run:
    plan = build_plan(load_campaign(str(campaign), assignments))
    return next(run for run in plan.stage("pretrain") if run.tags["method"] == "cp2")


def test_plan_lists_runs_states_and_what_sharing_saved(campaign: Path) -> None:
    done = _cp2("plan", "--runs", "--campaign", str(campaign))
    assert done.returncode == 0
    assert done.stdout.startswith("stage ")
    assert "dataset/photos" in done.stdout
    assert "21 runs: 0 done, 2 ready, 19 blocked" in done.stdout
    assert "sharing saved 17 of 38 runs" in done.stdout


def test_version_and_help() -> None:
    assert _cp2("--version").stdout.startswith("cp2 0.")
    assert "export" in _cp2("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["plan", "--campaign", "papr"], ["campaign 'papr'", "did you mean 'paper'"]),
        (
            ["pretrain", "cp2-resnet-tiny-aspp-tiny-e5-s0"],
            ["no pretrain run", "did you mean 'cp2-resnet-tiny-aspp"],
        ),
        (["plan", "--stage", "pretain"], ["--stage 'pretain'", "did you mean 'pretrain'"]),
        (["plan", "--set", "methods.cp2.views.crop_size=100"], ["crop_size 100", "multiple of 16"]),
        (["plan", "--set", "methods.cp2.batch_size=1"], ["methods.cp2.batch_size", "2"]),
        (["plan", "--set", "protocols.cp2.amp=fp17"], ["protocols.cp2.amp", "fp17", "fp16"]),
        (["bench", "--images", "/nowhere"], ["/nowhere", "name a folder of images"]),
    ],
)
def test_wrong_input_is_a_message_and_exit_code_2(
    arguments: list[str], messages: list[str]
) -> None:
    done = _cp2(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for message in messages:
        assert message in done.stderr


def test_killed_and_stopped_runs_end_as_if_never_interrupted(campaign: Path) -> None:
    chosen = ["--campaign", str(campaign)]
    assert _cp2("dataset", "photos", *chosen).returncode == 0
    run = _cp2_run(campaign)
    folder = run.folder(campaign.parent / "results")

    # SIGKILL, as the out-of-memory killer does, once a state is there.
    process = forked.Forked("cp2", "pretrain", run.id, *chosen)
    give_up = time.monotonic() + 120
    while not (folder.state / "previous.pt").exists():
        assert time.monotonic() < give_up
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not folder.is_done()
    assert not folder.model.exists()

    assert folder.holder() is None

    # The clock, which leaves with its own code.
    stopped = _cp2("pretrain", run.id, *chosen, "--max-minutes", "0")
    assert stopped.returncode == 85
    assert "saved at step" in stopped.stderr

    resumed = _cp2("pretrain", run.id, *chosen)
    assert resumed.returncode == 0
    assert "resumed at step" in resumed.stdout
    weights, _ = load_weights(folder.model)

    # A finished run is left alone.
    made = folder.model.stat().st_mtime_ns
    again = _cp2("pretrain", run.id, *chosen)
    assert again.returncode == 0
    assert f"pretrain/{run.id} is done" in again.stdout
    assert folder.model.stat().st_mtime_ns == made
    assert folder.is_done()
    killed, saved, done = read_attempts(folder.path)
    assert (killed.outcome, saved.outcome, done.outcome) == (None, "saved", "done")
    assert f"saved at step {saved.step} because" in stopped.stderr
    assert done.step == 18

    folder.path.rename(campaign.parent / "interrupted")
    assert _cp2("pretrain", run.id, *chosen).returncode == 0
    expected, _ = load_weights(folder.model)
    for part, tensors in expected.items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, weights[part][key]), (part, key)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_of_a_job_saves(campaign: Path, number: int) -> None:
    """As Slurm and a terminal send it: to the processes that load data, too."""
    changes = ("campaign.epochs={200: 3000, 20: 1}", "campaign.execution.workers=2")
    chosen = ["--campaign", str(campaign), *(word for one in changes for word in ("--set", one))]
    assert _cp2("dataset", "photos", *chosen).returncode == 0
    run = _cp2_run(campaign, *changes)
    folder = run.folder(campaign.parent / "results")
    words = [sys.executable, "-m", "cp2", "pretrain", run.id, *chosen]
    process = subprocess.Popen(words, start_new_session=True)
    give_up = time.monotonic() + 240
    while not (folder.state / "previous.pt").exists():
        assert time.monotonic() < give_up
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, number)
    assert process.wait(120) == 85
    assert [one.outcome for one in read_attempts(folder.path)] == ["saved"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_whose_folder_is_taken_away_ends_with_a_message(campaign: Path, workers: int) -> None:
    long = "campaign.epochs={200: 3000, 20: 1}"
    loaded = f"campaign.execution.workers={workers}"
    chosen = ["--campaign", str(campaign), "--set", long, "--set", loaded]
    assert _cp2("dataset", "photos", *chosen).returncode == 0
    run = _cp2_run(campaign, long)
    folder = run.folder(campaign.parent / "results")
    process = forked.Forked("cp2", "pretrain", run.id, *chosen)
    give_up = time.monotonic() + 120
    while not (folder.state / "previous.pt").exists():
        assert time.monotonic() < give_up
        assert process.poll() is None, process.stderr
        time.sleep(0.01)
    folder.path.rename(campaign.parent / "elsewhere")
    assert process.wait() == 2
    assert process.stderr.startswith("error: ")
    assert str(folder.path) in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(("policy", "code"), [("stop", 2), ("replace", 0)])
def test_a_corrupt_image_is_named_whatever_the_policy(
    campaign: Path, policy: str, code: int
) -> None:
    change = f"methods.cp2.reading.unreadable={policy}"
    chosen = ["--campaign", str(campaign), "--set", change]
    assert _cp2("dataset", "photos", *chosen).returncode == 0
    broken = campaign.parent / "photos" / "7.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    run = _cp2_run(campaign, change)
    done = _cp2("pretrain", run.id, *chosen)
    assert done.returncode == code
    assert "7.jpg" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    folder = run.folder(campaign.parent / "results")
    assert folder.is_done() == (policy == "replace")
    if folder.is_done():
        assert "1 of 12" in folder.done.read_text(encoding="utf-8")


def test_a_run_that_another_process_holds_is_refused_and_no_attempt(campaign: Path) -> None:
    chosen = ["--campaign", str(campaign)]
    run = _cp2_run(campaign)
    folder = run.folder(campaign.parent / "results")
    with folder.locked():
        done = _cp2("pretrain", run.id, *chosen)
    assert done.returncode == 2
    assert f"process {os.getpid()} on" in done.stderr
    assert "is working on this run" in done.stderr
    assert read_attempts(folder.path) == []


def test_a_failed_attempt_keeps_its_error(campaign: Path) -> None:
    run = _cp2_run(campaign)
    done = _cp2("pretrain", run.id, "--campaign", str(campaign))  # its data set is not made
    assert done.returncode == 2
    (attempt,) = read_attempts(run.folder(campaign.parent / "results").path)
    assert (attempt.outcome, attempt.step) == ("failed", None)
    assert attempt.error is not None
    assert attempt.error in done.stderr


@pytest.mark.parametrize("command", ["dataset", "pretrain"])
def test_a_results_folder_that_cannot_be_made(campaign: Path, command: str) -> None:
    (campaign.parent / "results").write_text("a file")
    name = "photos" if command == "dataset" else _cp2_run(campaign).id
    done = _cp2(command, name, "--campaign", str(campaign))
    assert done.returncode == 2
    assert "cannot be written to: a part of the path is a file" in done.stderr
    assert "--set campaign.execution.results=" in done.stderr


@pytest.mark.parametrize(
    ("number", "said"), [(errno.EROFS, "read-only"), (errno.ENOENT, "is gone"), (errno.EIO, "disk")]
)
def test_a_folder_that_is_lost_in_the_middle_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, said: str
) -> None:
    def lost() -> None:
        raise OSError(number, os.strerror(number), "results/pretrain/x/metrics.jsonl")

    monkeypatch.setattr(cli, "app", lost)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: results/pretrain/x/metrics.jsonl: ")
    assert said in error


def test_help_lists_every_stage_once_in_the_order_of_the_pipeline() -> None:
    shown = _cp2("--help").stdout
    for panel in PANELS:
        assert f"─ {panel} ─" in shown
    commands = re.findall(r"│ (\w+)  ", shown)
    assert sorted(name for name in commands if name in STAGES) == sorted(STAGES)
    run = [name for name in STAGES if name not in ("world", "publish")]
    assert commands[: len(run)] == run

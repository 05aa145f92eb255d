"""`cp2 doctor --gpu`: its comparison, and its workers, with a second CPU in the GPU's place."""

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cp2.cli import gpu, looks
from cp2.cli.app import app
from cp2.cli.gpu import _checks, _compared, _cp2, _plan, _start, _Worker
from cp2.cluster.doctor import Check
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan, Run
from cp2.record.folder import RunFolder
from cp2.settings.load import load_campaign
from cp2.stages import ON_DEVICE

ONE_METHOD = """
base: gpu_check
title: CP² alone
tables: [demo_methods]
pretrainings: []
world: {voc_train: 4, sbd_extra: 2, voc_val: 2, imagenet_per_class: 2, short_side: 48}
overrides:
  methods: {cp2: {views: {crop_size: 64}, batch_size: 8, bn_group_size: 4, queue_size: 16}}
  protocols: {cp2: {datasets: {voc2012: {batch_size: 2, iterations: 2}}}}
"""


def records(folder: Path, losses: list[float], miou: float, ranks: int = 7) -> RunFolder:
    folder.mkdir()
    lines = [json.dumps({"step": n, "loss": loss}) for n, loss in enumerate(losses, 1)]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / "scores.json").write_text(json.dumps({"metrics": {"miou": miou}}))
    np.full(100, ranks, np.uint8).tofile(folder / "maps.u8")
    return RunFolder(folder)


@pytest.mark.parametrize(
    ("losses", "miou", "ranks", "said"),
    [
        ([2.0, 1.0], 0.5, 7, None),
        ([2.01, 1.05], 0.52, 8, None),
        ([2.1, 1.0], 0.5, 7, "loss of step 1 is 5.00% from"),
        ([2.0, 1.3], 0.5, 7, "loss of step 2 is 30.00% from"),
        ([2.0, math.nan], 0.5, 7, "loss of step 2 is nan% from"),
        ([2.0, 1.0], 0.4, 7, "miou is 10.00% from"),
        ([2.0, 1.0], 0.5, 11, "ranks of attention is 100.00% from"),
        ([2.0], 0.5, 7, "number of steps is 100.00% from"),
    ],
)
def test_numbers_out_of_their_band_are_a_problem(
    losses: list[float], miou: float, ranks: int, said: str | None, tmp_path: Path
) -> None:
    expected = records(tmp_path / "cpu", [2.0, 1.0], 0.5)
    check = _compared("run", None, expected, records(tmp_path / "gpu", losses, miou, ranks))
    assert check.ok is (said is None)
    assert (said or "5 numbers, at most") in check.text


def test_mixed_precision_has_a_wider_band(tmp_path: Path) -> None:
    pair = records(tmp_path / "cpu", [2.0], 0.5), records(tmp_path / "gpu", [2.04], 0.5)
    assert _compared("bf16", None, *pair, band=3).ok
    assert not _compared("bf16", None, *pair).ok


def test_a_run_that_failed_is_a_problem(tmp_path: Path) -> None:
    nothing = RunFolder(tmp_path)
    assert _compared("run", "it died", nothing, nothing) == Check(False, "run: it died")


def kinds_of_work(campaign: str) -> set[tuple[object, ...]]:
    runs = build_plan(load_campaign(campaign)).runs.values()
    return {
        (run.stage, type(run.recipe), run.stage == "pretrain" and run.tags.get("method"))
        for run in runs
        if run.stage in ON_DEVICE
    }


def test_every_kind_of_work_on_a_device_is_among_the_runs() -> None:
    assert kinds_of_work("gpu_check") >= kinds_of_work("demo_full")


class Forgetful(_Worker):
    """A worker whose weights are of no use to the next run."""

    def make(self, run: Run, plan: Plan, *options: str) -> str | None:
        problem = super().make(run, plan, *options)
        if run.stage in ("pretrain", "finetune"):
            run.outputs(self.results)["model"].unlink(missing_ok=True)
        return problem


def test_a_worker_has_the_device_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CP2_DEVICE", "cpu")
    _start(gpu=True)
    assert "CP2_DEVICE" not in os.environ
    _start(gpu=False)
    assert os.environ["CP2_DEVICE"] == "cpu"


def test_the_checks_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second worker makes all anew from what the first one made; a killed one is replaced."""
    campaign = tmp_path / "one.yaml"
    campaign.write_text(ONE_METHOD)
    monkeypatch.setattr(gpu, "CAMPAIGN", str(campaign))
    monkeypatch.setattr(gpu, "VARIANTS", {"bf16": ("methods.cp2.amp=bf16", 3)})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(gpu, "LONG", "campaign.epochs={200: 3, 20: 1}")
    cpu, device = _Worker(tmp_path / "cpu", gpu=False), Forgetful(tmp_path / "gpu", gpu=False)
    try:
        checks = list(_checks(cpu, device))
        names = [check.text.partition(":")[0].partition("/")[0] for check in checks]
        assert names[1:4] == ["pretrain", "finetune", "evaluate"]
        assert names[4:7] == ["bf16", "stopped and resumed", "one GPU"]
        assert not [check for check in checks[:-1] if check.ok is False]
        assert "at most 0.00%" in checks[1].text
        assert "ten epochs: host_memory_gb grows by" in checks[-1].text

        plan = _plan()
        assert device._pool is not None
        os.kill(next(iter(device._pool._processes)), signal.SIGKILL)
        assert device.make(_cp2(plan), plan) == "its process died"
        assert device.make(_cp2(plan), plan, "--max-minutes", "-1") is not None
        assert device.make(_cp2(plan), plan) is None
    finally:
        cpu.stop()
        device.stop()


@pytest.mark.parametrize(("ok", "code"), [(False, 1), (True, 0), (None, 0)])
def test_a_problem_is_the_exit_code(
    ok: bool | None, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looks
    monkeypatch.setattr(gpu, "gpu_checks", lambda: iter([Check(ok, "what"), Check(True, "all")]))
    done = CliRunner().invoke(app, ["doctor", "--gpu"])
    assert (done.exit_code, "what\n" in done.output, "all\n" in done.output) == (code, True, True)

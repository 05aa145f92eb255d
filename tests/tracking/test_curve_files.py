"""Curves for TensorBoard and W&B; their writers are stand-ins that remember."""

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from imported import Campaign

from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.tracking.curves import write_events, write_wandb


class Writer:
    """torch.utils.tensorboard.SummaryWriter, as far as it is used."""

    written: ClassVar[dict[str, list[tuple[str, float, int, float]]]] = {}

    def __init__(self, folder: str) -> None:
        self._lines = self.written.setdefault(folder, [])
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"events.out.tfevents.{len(list(Path(folder).iterdir()))}").touch()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def add_scalar(self, name: str, value: float, step: int, walltime: float) -> None:
        self._lines.append((name, value, step, walltime))


def logged(campaign: Campaign) -> Run:
    """The only run of the campaign with something logged."""
    run = next(campaign.plan.stage("pretrain"))
    metrics = run.folder(campaign.results).metrics
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text('{"step": 2, "time": 9.5, "loss": 4.0, "data_wait": 0.25, "lr": null}\n')
    return run


def test_a_run_with_curves_gets_one_file(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("torch.utils.tensorboard")
    vars(module)["SummaryWriter"] = Writer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Writer, "written", {})
    run = logged(campaign)
    for _ in range(2):
        assert write_events(campaign.plan, campaign.results, tmp_path / "events") == 1
    folder = tmp_path / "events" / run.key
    assert len(list(folder.iterdir())) == 1
    lines = [("loss", 4.0, 2, 9.5), ("system/data_wait", 0.25, 2, 9.5)]
    assert Writer.written == {str(folder): 2 * lines}


def test_without_tensorboard(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(UserError, match="tensorboard is not installed: pip install tensorboard"):
        write_events(campaign.plan, campaign.results, tmp_path)


class OfflineRun(Writer):
    """A run of W&B, as far as it is used."""

    started: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **given: Any) -> None:
        self.started.append(given)
        (given["dir"] / "wandb" / f"offline-run-{len(self.started)}-{given['id']}").mkdir(
            parents=True
        )

    def log(self, values: dict[str, float], step: int) -> None:
        self.started[-1]["logged"] = values, step


def test_a_run_with_curves_is_one_offline_run_of_wandb(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("wandb")
    vars(module).update(init=OfflineRun, Settings=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr(OfflineRun, "started", [])
    monkeypatch.setenv("WANDB_MODE", "online")  # and is put back after the test
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "true")
    run = logged(campaign)
    for _ in range(2):
        assert write_wandb(campaign.plan, campaign.results, tmp_path / "out", "demo") == 1
    assert len(list((tmp_path / "out" / "wandb").iterdir())) == 1
    first, second = OfflineRun.started
    assert first["id"] == second["id"] == run.digest[:32]
    assert (first["project"], first["group"], first["name"]) == ("demo", "pretrain", run.id)
    assert first["config"]["seed"] == run.seed
    assert first["settings"].mode == os.environ["WANDB_MODE"] == "offline"
    assert first["logged"] == ({"loss": 4.0, "system/data_wait": 0.25, "_timestamp": 9.5}, 2)


def test_without_wandb(campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "")
    with pytest.raises(UserError, match="wandb is not installed: pip install wandb"):
        write_wandb(campaign.plan, campaign.results, tmp_path, "demo")

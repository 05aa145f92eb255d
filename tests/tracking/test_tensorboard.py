"""Curves as TensorBoard's event files; its writer is a stand-in that remembers."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from imported import Campaign

from cp2.errors import UserError
from cp2.tracking.tensorboard import write_events


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


def test_a_run_with_curves_gets_one_file(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Writer, "written", {})
    run = next(campaign.plan.stage("pretrain"))
    metrics = run.folder(campaign.results).metrics
    metrics.parent.mkdir(parents=True, exist_ok=True)
    metrics.write_text('{"step": 2, "time": 9.5, "loss": 4.0, "data_wait": 0.25, "lr": null}\n')
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

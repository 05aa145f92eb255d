"""Weights that a pretraining keeps on its way, for figures."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cp2.models.weights import load_weights
from cp2.plan.graph import Plan, Run
from cp2.settings.campaign import Execution
from cp2.settings.load import Configuration
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.pretrain import pretrain


class StopAtTheEpochsEnd(Deadline):
    """Stops after the third step: twelve images in batches of four."""

    steps = 0

    def reason(self) -> str | None:
        self.steps += 1
        return "the epoch is over" if self.steps == 3 else None


def test_an_epochs_weights_are_kept_also_if_the_run_stops_there(
    tiny: tuple[Configuration, Plan], find: Callable[[str], Run]
) -> None:
    configuration, run = tiny[0], find("moco-v2")
    execution = configuration.campaign.execution.model_copy(update={"snapshot_epochs": (1, 7)})
    folder = run.folder(configuration.results)
    kept = folder.path / "snapshots/epoch-1.safetensors"
    with pytest.raises(StoppedForResumeError):
        pretrain(run, configuration.results, execution, StopAtTheEpochsEnd())
    state = torch.load(folder.state / "last.pt", weights_only=True)
    pretrain(run, configuration.results, execution, Deadline())
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
    backbone = load_weights(kept)[0]["backbone"]
    key = "conv1.weight"
    (saved,) = [v for k, v in state["module"].items() if k.endswith(f"query.backbone.{key}")]
    assert torch.equal(backbone[key], saved)
    assert not torch.equal(backbone[key], load_weights(folder.model)[0]["backbone"][key])


@pytest.mark.parametrize(("every", "epochs"), [(None, ()), (1, (1, 2, 3, 4)), (2, (2, 4)), (5, ())])
def test_every_so_many_epochs_beside_those_that_are_named(
    every: int | None, epochs: tuple[int, ...]
) -> None:
    execution = Execution(snapshot_epochs=(3,), snapshot_every=every)
    assert {n for n in range(5) if execution.keeps(n)} == {3, *epochs}


def test_none_are_kept_unless_asked_for(
    tiny: tuple[Configuration, Plan], find: Callable[[str], Run]
) -> None:
    configuration, run = tiny[0], find("moco-v2")
    pretrain(run, configuration.results, configuration.campaign.execution, Deadline())
    assert not (Path(run.folder(configuration.results).path) / "snapshots").exists()

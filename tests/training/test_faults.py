"""Full disks and damaged states in the middle of a run, seen through the loop."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attempts import StopAfter, timeless_metrics

from cp2.errors import UserError
from cp2.models.weights import load_weights
from cp2.plan.graph import Plan, Run
from cp2.settings.load import Configuration
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.pretrain import pretrain
from cp2.training.saving import StateWriter

Tiny = tuple[Configuration, Plan]
Find = Callable[[str], Run]


class Setup:
    """One run in results folders of its own that share the data set; saves after every step."""

    def __init__(self, configuration: Configuration, run: Run) -> None:
        self.run, self._configuration = run, configuration
        self._execution = configuration.campaign.execution.model_copy(update={"save_minutes": 0.0})

    def results(self, name: str) -> Path:
        folder = self._configuration.results.parent / name
        if not folder.exists():
            folder.mkdir()
            (folder / "datasets").symlink_to(self._configuration.results / "datasets")
        return folder

    def train(self, name: str, deadline: Deadline | None = None) -> None:
        pretrain(self.run, self.results(name), self._execution, deadline or Deadline())

    def content(self, name: str) -> tuple[dict[str, Any], list[Any]]:
        """Weights, and the metrics that do not depend on the hour."""
        folder = self.run.folder(self.results(name))
        parts, _ = load_weights(folder.model)
        weights = {f"{part}.{key}": t for part, ts in parts.items() for key, t in ts.items()}
        return weights, timeless_metrics(folder.metrics)

    def check_equal(self, first: str, second: str) -> None:
        (weights, lines), (others, other_lines) = self.content(first), self.content(second)
        assert weights.keys() == others.keys()
        for key, tensor in weights.items():
            assert torch.equal(tensor, others[key]), key
        assert lines == other_lines


@pytest.fixture
def setup(tiny: Tiny, find: Find, monkeypatch: pytest.MonkeyPatch) -> Setup:
    # Each save ends before the next step, so that the test knows what is on the disk.
    monkeypatch.setattr(StateWriter, "busy", property(_wait))
    return Setup(tiny[0], find("cp2"))


def _wait(writer: StateWriter) -> bool:
    if writer._write is not None:
        writer._write.join()
    return False


def _fill_disk(monkeypatch: pytest.MonkeyPatch, calls: set[int]) -> None:
    """The disk is full at these saves, counted from 1."""
    save, count = torch.save, [0]

    def save_if_room(*arguments: Any) -> None:
        count[0] += 1
        if count[0] in calls:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(torch, "save", save_if_room)


def test_a_full_disk_for_a_while_costs_nothing_but_saves(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.train("whole")
    _fill_disk(monkeypatch, {2, 3})
    setup.train("full")
    setup.check_equal("whole", "full")
    log = setup.run.folder(setup.results("full")).log.read_text()
    assert log.count("WARNING") == 2
    assert "the state of step 2 could not be saved: the disk is full" in log
    assert "the state of step 3 could not be saved" in log


def test_a_disk_that_is_full_at_the_last_save_is_an_error_and_the_run_goes_on_later(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.train("whole")
    with monkeypatch.context() as patch:
        _fill_disk(patch, {3, 4})  # the last save tries again without the older one
        with pytest.raises(UserError, match="the state of step 3 could not be saved: the disk is"):
            setup.train("parts", StopAfter(3))
    setup.train("parts")
    setup.check_equal("whole", "parts")
    log = setup.run.folder(setup.results("parts")).log.read_text()
    assert "resumed at step 2" in log


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_newest_state_ends_as_if_nothing_had_happened(setup: Setup, damage: str) -> None:
    setup.train("whole")
    with pytest.raises(StoppedForResumeError):
        setup.train("parts", StopAfter(4))
    folder = setup.run.folder(setup.results("parts"))
    newest = folder.state / "last.pt"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    setup.train("parts")
    setup.check_equal("whole", "parts")
    assert "resumed at step 3" in folder.log.read_text()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"optimizer": None}, "KeyError: 'optimizer'"),
        ({"window": None}, "KeyError: 'window'"),
        ({"step": 10**6}, "it is of step 1000000 of"),
        ({"step": -1}, "it is of step -1 of"),
        ({"step": "4"}, "TypeError"),
        ({"run": "0" * 64}, "it is of another run"),
        ({"module": {}}, "its weights are not those of this network"),
        ({"rng": torch.zeros(3, dtype=torch.uint8)}, "its weights are not those of this network"),
        ({"optimizer": {"state": {}, "param_groups": []}}, "its weights are not those"),
    ],
)
def test_a_state_that_is_none_falls_back_before_any_of_it_is_used(
    setup: Setup, capsys: pytest.CaptureFixture[str], change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(StoppedForResumeError):
        setup.train("parts", StopAfter(4))
    folder = setup.run.folder(setup.results("parts"))
    newest = folder.state / "last.pt"
    state = torch.load(newest, weights_only=True) | change
    torch.save({key: value for key, value in state.items() if value is not None}, newest)
    with pytest.raises(StoppedForResumeError):
        setup.train("parts", StopAfter(1))
    assert problem in capsys.readouterr().out
    assert "resumed at step 3" in folder.log.read_text()

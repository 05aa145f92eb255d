"""A step asks the device for no value: on the meta device, which holds none, asking is an error.

What a GPU would make the host wait for (`.item()`, `.tolist()`, `nonzero`, a boolean index, a
condition on a tensor, a copy back) raises there, so the loop itself is run on it, unchanged.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from noise import relative
from torch import Tensor
from torch.nn import functional

from cp2.models import batch_norm, devices
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.campaign import Execution
from cp2.settings.load import Configuration
from cp2.training import pretrain, trainer
from cp2.training.clock import Deadline

Tiny = tuple[Configuration, Plan]
Find = Callable[[str], Run]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "cp2": ("cp2", {}),
    "moco-v2": ("moco-v2", {}),
    "groups, shuffled": ("cp2", {"bn_group_size": 2}),
    "query axis": ("cp2", {"dense_softmax_axis": "query"}),
    "backgrounds of the batch": ("cp2", {"background": "batch"}),
}


class EndedError(Exception):
    """Enough steps."""


class EndAfter(Deadline):
    """Ends the test after so many steps: a state without values cannot be saved."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def reason(self) -> str | None:
        self.left -= 1
        if self.left == 0:
            raise EndedError
        return None


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training runs on the meta device; one without autocast, and with nothing to look at."""
    for module in (trainer, batch_norm, devices):
        monkeypatch.setattr(module, "choose_device", lambda: torch.device("meta"))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(pretrain, "picture_views", lambda *_: None)


def _two_steps(run: Run, configuration: Configuration) -> None:
    execution = Execution(workers=0, log_every=1000, results=str(configuration.results))
    with pytest.raises(EndedError):
        pretrain.pretrain(run, configuration.results, execution, EndAfter(2))


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize("case", CASES)
def test_a_step_asks_the_device_for_nothing(tiny: Tiny, find: Find, case: str) -> None:
    name, changes = CASES[case]
    run = find(name)
    assert isinstance(run.recipe, PretrainRecipe)
    method = run.recipe.method.model_copy(update=changes)
    recipe = run.recipe.model_copy(update={"method": method})
    _two_steps(Run(run.stage, run.id, "", recipe, 0, run.needs, run.tags), tiny[0])


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("moco-v2-plus", {}),
        ("densecl", {"bn_group_size": 2, "grid": 1}),
        ("densecl", {"matching": "random"}),
        ("pixcon-coord", {}),
        ("pixcon-sr", {}),
    ],
)
def test_neither_do_the_relatives(
    tiny: Tiny, find: Find, name: str, changes: dict[str, Any]
) -> None:
    _two_steps(relative(tiny[0], find("moco-v2"), name, **changes), tiny[0])


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    "asks",
    [
        lambda x: x.mean().item(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: bool((x > 0).all()),
        lambda x: x.cpu().numpy(),
    ],
    ids=["item", "nonzero", "boolean index", "condition", "copy"],
)
def test_asking_would_be_noticed(
    tiny: Tiny, find: Find, monkeypatch: pytest.MonkeyPatch, asks: Callable[[Tensor], object]
) -> None:
    real = functional.normalize

    def asking(features: Tensor, **options: Any) -> Tensor:
        asks(features)
        return real(features, **options)

    monkeypatch.setattr(functional, "normalize", asking)
    configuration, run = tiny[0], find("cp2")
    execution = Execution(workers=0, log_every=1000, results=str(configuration.results))
    with pytest.raises((RuntimeError, NotImplementedError)):
        pretrain.pretrain(run, configuration.results, execution, EndAfter(2))

"""Compiled encoders: the same training, and a reason in the log where it cannot be had."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cp2.methods.contrastive import Contrastive
from cp2.models.weights import load_weights
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.base import hashed_fields
from cp2.settings.load import Configuration
from cp2.training import compiling
from cp2.training.clock import Deadline
from cp2.training.compiling import compile_encoders
from cp2.training.optimizers import Precision
from cp2.training.pretrain import build, pretrain, zeros_like_a_micro_batch

Tiny = tuple[Configuration, Plan]
Find = Callable[[str], Run]
CPU = torch.device("cpu")


def failing(_graph: Any, _inputs: Any) -> Any:
    raise RuntimeError("no compiler here\nand a long story")


def failing_backwards(graph: Any, inputs: Any) -> Any:
    """Gives a function whose gradient cannot be taken."""

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *_: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no compiler for the way back")

    def run(*arguments: torch.Tensor) -> list[torch.Tensor]:
        return [Broken.apply(output) for output in graph(*arguments)]

    return run


def with_settings(run: Run, **changes: Any) -> Run:
    assert isinstance(run.recipe, PretrainRecipe)
    method = run.recipe.method.model_copy(update=changes)
    recipe = run.recipe.model_copy(update={"method": method})
    return Run(run.stage, run.id, "", recipe, 0, run.needs, run.tags)


def method_of(run: Run, results: Path) -> Contrastive:
    assert isinstance(run.recipe, PretrainRecipe)
    torch.manual_seed(0)
    method, _ = build(run.recipe, results)
    return method.train()


@pytest.mark.parametrize(("name", "backend"), [("cp2", "eager"), ("moco-v2", "aot_eager")])
def test_compiled_encoders_compute_the_same(
    tiny: Tiny, find: Find, monkeypatch: pytest.MonkeyPatch, name: str, backend: str
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", backend)
    method = method_of(find(name), tiny[0].results)
    plain = copy.deepcopy(method)
    images = zeros_like_a_micro_batch(method, CPU)
    random = torch.get_rng_state()
    assert compile_encoders(method, images, Precision("off", CPU)) == "the encoders are compiled"
    assert torch.equal(torch.get_rng_state(), random)
    for (key, value), (other, expected) in zip(
        method.state_dict().items(), plain.state_dict().items(), strict=True
    ):
        assert key == other
        assert torch.equal(value, expected), key
    assert all(p.grad is None for p in method.parameters())
    images = torch.rand_like(images)
    ours, theirs = method.encoders.query(images), plain.encoders.query(images)
    torch.testing.assert_close(ours, theirs)
    assert method.encoders.query._compiled_call_impl is not None


def test_a_failure_on_the_way_back_is_found_before_the_first_step(
    tiny: Tiny, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", failing_backwards)
    method = method_of(find("moco-v2"), tiny[0].results)
    note = compile_encoders(method, zeros_like_a_micro_batch(method, CPU), Precision("off", CPU))
    assert "uncompiled (RuntimeError: no compiler for the way back)" in note
    assert method.encoders.query._compiled_call_impl is None


def test_a_run_goes_on_uncompiled_and_says_why(
    tiny: Tiny, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tiny[0]
    monkeypatch.setattr(compiling, "BACKEND", failing)
    plain = find("moco-v2")
    run = with_settings(plain, compile=True)
    models = []
    for one, name in ((plain, "plain"), (run, "compiled")):
        results = configuration.results.parent / name
        results.mkdir()
        (results / "datasets").symlink_to(configuration.results / "datasets")
        pretrain(one, results, configuration.campaign.execution, Deadline())
        models.append(load_weights(one.folder(results).model)[0])
    log = run.folder(results).log.read_text()
    assert "compile: true has no effect" in log
    assert "(RuntimeError: no compiler here)" in log
    assert "long story" not in log
    for part, tensors in models[0].items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, models[1][part][key]), key


def test_compile_is_hashed_when_it_is_asked_for(find: Find) -> None:
    run = find("cp2")
    assert isinstance(run.recipe, PretrainRecipe)
    assert "compile" not in hashed_fields(run.recipe.method)
    changed = with_settings(run, compile=True).recipe
    assert isinstance(changed, PretrainRecipe)
    assert hashed_fields(changed.method)["compile"] is True

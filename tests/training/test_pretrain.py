"""The pretraining loop: resume, Quick Tuning, refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from attempts import StopAfter, timeless_metrics
from noise import relative
from PIL import Image

from cp2.errors import UserError, WrongFile
from cp2.methods.cp2 import CopyPasteContrast
from cp2.models.weights import load_weights
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import PretrainRecipe
from cp2.settings.load import Configuration
from cp2.settings.views import ReadingSettings
from cp2.training import pretrain as loop
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.pretrain import pretrain

Tiny = tuple[Configuration, Plan]
Find = Callable[[str], Run]


def _train(run: Run, configuration: Configuration, deadline: Deadline, results: Path) -> None:
    pretrain(run, results, configuration.campaign.execution, deadline)


def _results(configuration: Configuration, name: str) -> Path:
    """A results folder of its own that shares the data sets."""
    folder = configuration.results.parent / name
    folder.mkdir()
    (folder / "datasets").symlink_to(configuration.results / "datasets")
    return folder


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        *product(["moco-v2", "cp2"], [1, 2, 3, 4]),
        ("moco-v2-plus", 2),
        ("densecl", 1),
        ("pixcon-coord", 3),
        ("pixcon-sr", 2),
    ],
)
def test_interrupted_equals_uninterrupted(tiny: Tiny, find: Find, method: str, steps: int) -> None:
    configuration, _ = tiny
    if method in ("moco-v2", "cp2"):
        run = find(method)
    else:
        drawn = {"matching": "random"} if method == "densecl" else {}
        run = relative(configuration, find("moco-v2"), method, **drawn)
    whole, parts = _results(configuration, "whole"), _results(configuration, "parts")
    _train(run, configuration, Deadline(), whole)
    attempts = 1
    while True:
        try:
            _train(run, configuration, StopAfter(steps), parts)
            break
        except StoppedForResumeError:
            attempts += 1
            assert attempts < 10
    assert attempts > 1
    expected, _ = load_weights(run.folder(whole).model)
    found, _ = load_weights(run.folder(parts).model)
    assert expected.keys() == found.keys() >= {"backbone", "keys"}
    for part, tensors in expected.items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, found[part][key]), (part, key)
    lines = [timeless_metrics(run.folder(place).metrics) for place in (whole, parts)]
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0]] == [2, 4, 6]
    assert not run.folder(parts).state.exists()


def test_a_finished_run_has_its_files(tiny: Tiny, find: Find) -> None:
    configuration, _ = tiny
    run = find("cp2")
    _train(run, configuration, Deadline(), configuration.results)
    folder = run.folder(configuration.results)
    assert run.is_done(configuration.results)
    assert json.loads(folder.recipe.read_text())["tags"]["run_id"] == run.id
    assert json.loads(folder.environment.read_text())["attempt"] == 1
    with Image.open(folder.pictures / "composed.png") as sheet:
        assert sheet.size == (8 * 40, 4 * 40)  # 8 pictures of 32 + 2 x 4 pixels; 4 samples
    parts, metadata = load_weights(folder.model)
    assert set(parts) == {"backbone", "head", "projection", "keys"}
    assert metadata["run"] == run.id
    assert "key_bn: shuffle has no effect" in folder.log.read_text()


def test_decoding_on_the_device_trains_the_same_weights(tiny: Tiny, find: Find) -> None:
    configuration, _ = tiny
    run = find("cp2")
    assert isinstance(run.recipe, PretrainRecipe)
    reading = ReadingSettings(decoder="device")
    method = run.recipe.method.model_copy(update={"reading": reading})
    other = replace(run, recipe=run.recipe.model_copy(update={"method": method}))
    models = []
    for one, name in ((run, "workers"), (other, "device")):
        results = _results(configuration, name)
        _train(one, configuration, Deadline(), results)
        models.append(load_weights(one.folder(results).model)[0])
    for part, tensors in models[0].items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, models[1][part][key]), (part, key)


def test_quick_tuning_starts_from_the_other_runs_backbone(tiny: Tiny, find: Find) -> None:
    configuration, _ = tiny
    _train(find("moco-v2"), configuration, Deadline(), configuration.results)
    tuned = find("cp2-qt")
    method, _ = loop.build(tuned.recipe, configuration.results)  # type: ignore[arg-type]
    trained, _ = load_weights(find("moco-v2").folder(configuration.results).model)
    for key, tensor in method.encoders.query.backbone.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(tensor, trained["backbone"][key]), key


def test_quick_tuning_without_its_start_says_what_is_missing(tiny: Tiny, find: Find) -> None:
    configuration, _ = tiny
    with pytest.raises(WrongFile, match=r"model\.safetensors"):
        _train(find("cp2-qt"), configuration, Deadline(), configuration.results)


def test_a_loss_that_is_not_finite_names_step_and_term(
    tiny: Tiny, find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration, _ = tiny
    forward = CopyPasteContrast.forward
    calls = []

    def spoiled(self: CopyPasteContrast, *given: Any) -> dict[str, torch.Tensor]:
        terms = forward(self, *given)
        calls.append(1)
        if len(calls) == 3:
            terms["loss_dense"] = torch.tensor(float("nan"))
        return terms

    monkeypatch.setattr(CopyPasteContrast, "forward", spoiled)
    with pytest.raises(UserError, match="step 3: loss_dense is nan"):
        _train(find("cp2"), configuration, Deadline(), configuration.results)
    assert not find("cp2").is_done(configuration.results)


def test_too_few_images_for_a_batch(tiny: Tiny, find: Find) -> None:
    configuration, _ = tiny
    run = find("moco-v2")
    recipe = run.recipe.model_copy(
        update={"method": run.recipe.method.model_copy(update={"batch_size": 13})}  # type: ignore[union-attr]
    )
    changed = Run(run.stage, run.id, run.digest, recipe, run.seed, run.needs, run.tags)
    with pytest.raises(UserError, match="batch_size 13 is more than the 12 training images"):
        _train(changed, configuration, Deadline(), configuration.results)

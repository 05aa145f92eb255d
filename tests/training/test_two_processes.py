"""The same recipe gives the same numbers for any number of processes and micro-batches."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from attempts import timeless_metrics
from noise import relative, write_noise
from squares import HEAD, RECIPE, write_squares
from trainings import Training, train, train_on_two

from cp2.errors import UserError
from cp2.models.weights import load_weights
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import PretrainRecipe
from cp2.record.metrics import read_metrics
from cp2.settings.campaign import Execution
from cp2.settings.models import AsppSettings

NO_NORM = tiny.vit(dim=16, name="tiny")
ASPP = AsppSettings(kind="aspp", name="tiny", title="", channels=8, dilations=(1, 2))
PRETRAININGS: dict[str, tuple[str, dict[str, Any]]] = {
    # name: method, changes of its settings
    "whole batch": ("cp2", {"key_bn": "none", "bn_group_size": None}),
    "groups, shuffled": ("cp2", {"bn_group_size": 2}),
    "a group a process, shuffled": ("moco-v2", {"bn_group_size": 4}),
    "groups, keys over the whole batch": ("cp2", {"bn_group_size": 2, "key_bn": "sync"}),
    "no batch norm": ("moco-v2", {"bn_group_size": None}),
}
BARE = {"predictor": False, "projector_norm": False}
RELATIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "symmetric": ("moco-v2-plus", BARE),
    "weights over the batch": ("pixcon-sr", BARE),
    "pixcon-sr's predictors and norms": ("pixcon-sr", {}),
    "all of pixcon-sr": ("pixcon-sr", {}),
    "radius over the batch": ("pixcon-coord", BARE),
    "random matches, shuffled": (
        "densecl",
        {"matching": "random", "bn_group_size": 4, "predictor": True},
    ),
}
# On a ResNet, with its norms and ReLUs, rounding grows with each step until a unit is on that was
# off, or a cell is matched otherwise. These are on a vision transformer; `RATES` is for the rest.
SMOOTH = {"symmetric", "weights over the batch", "radius over the batch"}
SMOOTH |= {"pixcon-sr's predictors and norms"}
RATES = {"all of pixcon-sr": 1e-6}
FINETUNINGS: dict[str, dict[str, Any]] = {
    "whole batch": {"bn_group_size": None},
    "groups": {"bn_group_size": 2},
}
IN_PARTS = ["groups, shuffled", "no batch norm", "finetuning, groups"]
RESUMED = ["groups, shuffled", "finetuning, whole batch"]


def pretraining(plan: Plan, case: str) -> Run:
    name, changes = PRETRAININGS[case]
    run = next(r for r in plan.stage("pretrain") if r.tags["method"] == name)
    recipe = run.recipe
    assert isinstance(recipe, PretrainRecipe)
    # Small steps: else differences of the sixth digit grow by the training itself.
    optimizer = {
        family: settings.model_copy(update={"lr": 1e-3})
        for family, settings in recipe.method.optimizer.items()
    }
    method = recipe.method.model_copy(
        update={"batch_size": 8, "queue_size": 20, "optimizer": optimizer, **changes}
    )
    update: dict[str, Any] = {"method": method, "epochs": 4}
    if name == "cp2":
        update["head"] = HEAD  # norms over 1 x 1 maps, as ASPP's, blow rounding up
    if case == "no batch norm":
        update["backbone"] = NO_NORM
    return Run(
        run.stage, case.replace(" ", "-"), "", recipe.model_copy(update=update), 0, run.needs, {}
    )


def finetuning(case: str) -> Run:
    optimizer = RECIPE.optimization.optimizer.model_copy(update={"lr": 2e-3})
    optimization = RECIPE.optimization.model_copy(
        update={"optimizer": optimizer, "batch_size": 8, "iterations": 4, **FINETUNINGS[case]}
    )
    recipe = RECIPE.model_copy(
        update={
            "head": ASPP if case == "whole batch" else HEAD.model_copy(update={"dropout": 0.5}),
            "optimization": optimization,
        }
    )
    name = f"finetune-{case.replace(' ', '-')}"
    return Run("finetune", name, "", recipe, 0, ("dataset/squares",), {"dataset": "squares"})


@dataclass(frozen=True)
class Done:
    """All trainings, by case: on one process, and otherwise."""

    root: Path
    runs: dict[str, Run]

    def weights(self, place: str, case: str) -> dict[str, torch.Tensor]:
        parts, _ = load_weights(self.runs[case].folder(self.root / place).model)
        return {f"{p}.{key}": value for p, part in parts.items() for key, value in part.items()}

    def losses(self, place: str, case: str) -> list[dict[str, float]]:
        return timeless_metrics(self.runs[case].folder(self.root / place).metrics)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Everything is trained once; starting processes is what takes long."""
    root = tmp_path_factory.mktemp("processes")
    configuration, plan = write_noise(root)
    write_squares(root)
    datasets = configuration.results / "datasets"
    for place in ("one", "two", "micro", "two micro", "one-two", "two-one"):
        (root / place).mkdir()
        (root / place / "datasets").symlink_to(datasets)
    runs = {case: pretraining(plan, case) for case in PRETRAININGS}
    for case, (name, changes) in RELATIVES.items():
        smooth, rate = case in SMOOTH, RATES.get(case, 1e-3)
        optimizer = {
            "vit" if smooth else "resnet": {"kind": "sgd", "lr": rate, "weight_decay": 0.0}
        }
        small = {"batch_size": 8, "optimizer": optimizer, "schedule": {"warmup_epochs": 0.0}}
        run = relative(configuration, pretraining(plan, "whole batch"), name, **small, **changes)
        assert isinstance(run.recipe, PretrainRecipe)
        update: dict[str, Any] = {"head": None, "epochs": 4 if smooth else 2}
        if smooth:
            views = run.recipe.method.views.model_copy(update={"crop_size": 32})
            method = run.recipe.method.model_copy(update={"views": views})
            update |= {"backbone": NO_NORM, "method": method}
        recipe = run.recipe.model_copy(update=update)
        runs[case] = Run(run.stage, case.replace(" ", "-"), "", recipe, 0, run.needs, {})
    runs |= {f"finetuning, {case}": finetuning(case) for case in FINETUNINGS}

    def at(place: str, case: str, micro: int = 1, **kwargs: int) -> Training:
        parts = {"pretrain": micro, "finetune": micro}
        execution = Execution(workers=0, log_every=2, accumulate=parts)
        return Training(runs[case], root / place, execution, **kwargs)

    for case in runs:
        train(at("one", case))
    for case in IN_PARTS:
        train(at("micro", case, micro=2))
    for case in RESUMED:
        train(at("one-two", case, steps=2))
    train_on_two(
        [
            *(at("two", case) for case in runs),
            *(at("two micro", case, micro=2) for case in IN_PARTS),
            *(at("one-two", case) for case in RESUMED),
            *(at("two-one", case, steps=2, asks=1) for case in RESUMED),
        ],
        root,
    )
    for case in RESUMED:
        train(at("two-one", case))
    return Done(root, runs)


CASES = [*PRETRAININGS, *RELATIVES, *(f"finetuning, {case}" for case in FINETUNINGS)]
COMPARED = [
    *(("two", case) for case in CASES),
    *((place, case) for place in ("micro", "two micro") for case in IN_PARTS),
    *((place, case) for place in ("one-two", "two-one") for case in RESUMED),
]


@pytest.mark.parametrize(("place", "case"), COMPARED)
def test_the_numbers_are_those_of_one_process(done: Done, place: str, case: str) -> None:
    expected, found = done.losses("one", case), done.losses(place, case)
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    for ours, theirs in zip(found, expected, strict=True):
        # Norms of tiny variance enlarge roundings on the way back to the first layers.
        assert ours.pop("gradient_norm") == pytest.approx(theirs.pop("gradient_norm"), rel=0.01)
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    weights, ours = done.weights("one", case), done.weights(place, case)
    assert weights.keys() == ours.keys()
    for name, tensor in weights.items():  # running statistics and the queue among them
        torch.testing.assert_close(ours[name], tensor, atol=1e-5, rtol=1e-5)


def test_the_cases_differ(done: Done) -> None:
    """Else the comparisons above would show nothing about groups and shuffling."""
    cases = ["whole batch", "groups, shuffled", "groups, keys over the whole batch"]
    weights = [done.weights("one", case) for case in cases]
    for first, second in itertools.combinations(weights, 2):
        assert max((first[name] - second[name]).abs().max() for name in first) > 0.01


def test_only_the_first_process_writes(done: Done) -> None:
    folder = done.runs["groups, shuffled"].folder(done.root / "two")
    text = folder.log.read_text()
    assert text.count("steps an epoch") == 1
    assert text.count("step 2/") == 1
    assert len(read_metrics(folder.metrics)) == len(done.losses("one", "groups, shuffled"))
    assert not folder.state.exists()


def test_a_stop_that_another_process_asked_for_is_said(done: Done) -> None:
    log = done.runs["groups, shuffled"].folder(done.root / "two-one").log.read_text()
    assert "stopped at step 3: another process was asked to stop" in log
    assert "resumed at step 3" in log


@pytest.mark.parametrize("case", ["whole batch", "a group a process, shuffled"])
def test_micro_batches_that_would_change_the_numbers_are_refused(done: Done, case: str) -> None:
    execution = Execution(workers=0, accumulate={"pretrain": 4})
    with pytest.raises(UserError, match=r"bn_group_size.*8 images on 1 process\(es\) in 4 micro"):
        train(Training(done.runs[case], done.root / "one", execution))

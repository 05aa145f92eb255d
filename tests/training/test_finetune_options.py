"""What DenseCL's and PixCon's protocols ask of finetuning: step schedule, second head, corners."""

from pathlib import Path

import pytest
import torch
from attempts import StopAfter
from squares import HEAD, RECIPE, STEPS, changed, make, write_squares
from torch.nn import functional as F

from cp2.models.segmentor_files import load_segmentor
from cp2.plan.graph import Run
from cp2.plan.protocols.segmentation import AuxiliaryRecipe, SegmentationFinetuneRecipe
from cp2.protocols.segmentation.finetuning import (
    finetune,
    finetune_lr,
    segmentation_terms,
    supervised_terms,
)
from cp2.record.metrics import read_metrics
from cp2.settings.campaign import Execution
from cp2.settings.models import ResNetSettings
from cp2.settings.optimization import StepSettings
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.optimizers import step_lr

SUPERVISED = RECIPE.model_copy(update={"auxiliary": AuxiliaryRecipe(head=HEAD, weight=0.4)})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_squares(tmp_path)


def train(
    results: Path,
    recipe: SegmentationFinetuneRecipe,
    name: str,
    deadline: Deadline | None = None,
    micro_batches: int = 1,
) -> tuple[Run, list[float]]:
    run = make(recipe, name=name)
    execution = Execution(workers=0, log_every=1, accumulate={"finetune": micro_batches})
    finetune(run, results, execution, deadline or Deadline())
    return run, [line["loss"] for line in read_metrics(run.folder(results).metrics)]


def weights(run: Run, results: Path) -> dict[str, torch.Tensor]:
    return load_segmentor(run.folder(results).model).state_dict()


def test_step_schedule_of_the_papers() -> None:
    settings = StepSettings(milestones=(0.7, 0.9))
    for total, milestones in ((30_000, (21_000, 27_000)), (90_000, (63_000, 81_000))):
        for iteration in (0, *(m + d for m in milestones for d in (-1, 0)), total - 1):
            passed = sum(iteration >= m for m in milestones)
            found = step_lr(0.01, settings, iteration, total)
            assert found == pytest.approx(0.01 * 0.1**passed)


def test_the_rate_follows_the_protocols_schedule() -> None:
    stepped = changed(poly=None, step=StepSettings(milestones=(0.5,))).optimization
    rates = [finetune_lr(stepped, i) for i in range(STEPS)]
    assert rates == pytest.approx([0.05] * 4 + [0.005] * 3)
    rates = [finetune_lr(RECIPE.optimization, i) for i in range(STEPS)]
    expected = [(0.05 - 1e-4) * (1 - i / STEPS) ** 0.9 + 1e-4 for i in range(STEPS)]
    assert rates == pytest.approx(expected)


def test_the_second_heads_loss_is_added_with_its_weight() -> None:
    torch.manual_seed(0)
    outputs, labels = (torch.randn(2, 3, 4, 4), torch.randn(2, 3, 5, 5)), torch.ones(2, 8, 8).long()
    losses = [
        F.cross_entropy(
            F.interpolate(logits, (8, 8), mode="bilinear", align_corners=True), labels
        ).item()
        for logits in outputs
    ]
    terms = supervised_terms(outputs, labels, 0.4, align_corners=True)
    assert terms["loss"].item() == pytest.approx(losses[0] + 0.4 * losses[1], rel=1e-5)
    alone = segmentation_terms(outputs[0], labels, align_corners=True)
    assert terms["accuracy"] == alone["accuracy"]


def test_corners_lie_on_corners() -> None:
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, :, 1] = 8.0  # the right half is class 1
    labels = torch.zeros(1, 5, 5).long()
    right = [
        segmentation_terms(logits, labels, align_corners)["accuracy"][0]
        for align_corners in (False, True)
    ]
    # Values 0, 0.8, 4, 7.2, 8 without, 0, 2, 4, 6, 8 with; class 0 wins where they are 0 only.
    losses = []
    for align_corners in (False, True):
        row = torch.tensor([0, 2, 4, 6, 8.0] if align_corners else [0, 0.8, 4, 7.2, 8])
        slow = torch.log(1 + row.exp()).mean().item()
        found = segmentation_terms(logits, labels, align_corners)["loss"].item()
        losses.append((found, slow))
    assert [int(count) for count in right] == [5, 5]
    for found, slow in losses:
        assert found == pytest.approx(slow, rel=1e-5)


def test_with_a_second_head_interrupted_equals_uninterrupted(results: Path) -> None:
    whole, losses = train(results, SUPERVISED, "run")
    _, plain = train(results, RECIPE, "plain")
    with pytest.raises(StoppedForResumeError):
        train(results, SUPERVISED, "run-in-parts", StopAfter(3))
    parts, again = train(results, SUPERVISED, "run-in-parts")
    assert again == losses
    assert losses[0] > 1.3 * plain[0]  # near 1.4: both heads start at log(classes)
    expected, found = weights(whole, results), weights(parts, results)
    assert not any("auxiliary" in key for key in expected)
    for key, tensor in expected.items():
        assert torch.equal(tensor, found[key]), key


def test_micro_batches_change_no_number(results: Path) -> None:
    recipe = changed(SUPERVISED, batch_size=4, bn_group_size=2)
    _, whole = train(results, recipe, "whole")
    _, parts = train(results, recipe, "parts", micro_batches=2)
    assert parts[:4] == pytest.approx(whole[:4], rel=1e-4)  # roundings grow from step to step


def test_the_file_is_of_the_stride_that_was_trained(results: Path) -> None:
    assert isinstance(RECIPE.backbone, ResNetSettings)
    strided = RECIPE.backbone.model_copy(update={"output_stride": 8})
    run, _ = train(results, RECIPE.model_copy(update={"backbone": strided}), "eight")
    assert load_segmentor(run.folder(results).model).backbone.stride == 8


def test_legacy_normalisation_trains_on_other_pixels(results: Path) -> None:
    augmentation = RECIPE.augmentation.model_copy(update={"normalization": "legacy"})
    _, legacy = train(results, RECIPE.model_copy(update={"augmentation": augmentation}), "legacy")
    _, usual = train(results, RECIPE, "usual")
    assert legacy != usual

"""The finetuning loop: learning, resume, starting weights, refusals."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from attempts import StopAfter, timeless_metrics
from PIL import Image
from squares import (
    CLASSES,
    COLOURS,
    HEAD,
    IMAGES,
    RECIPE,
    RESNET,
    STEPS,
    VIT,
    changed,
    make,
    write_squares,
)

from cp2.data import decoded
from cp2.data.images import decode_rgb
from cp2.data.index import read_index
from cp2.data.labels import IGNORE
from cp2.drawing import counters
from cp2.errors import UserError, WrongFile
from cp2.models.segmentor_files import build_segmentor, load_segmentor
from cp2.models.weights import save_weights
from cp2.plan.graph import Run
from cp2.protocols.segmentation import finetuning as loop
from cp2.protocols.segmentation.finetuning import (
    build,
    build_dataset,
    finetune,
    seed_dropout,
    segmentation_terms,
)
from cp2.settings.campaign import Execution
from cp2.settings.models import IMAGENET_MEAN, IMAGENET_STD, ResNetSettings, ViTSettings
from cp2.settings.optimization import AdamWSettings, PolySettings
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.saving import wait_for_saves

EXECUTION = Execution(workers=0, log_every=2)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with the prepared squares."""
    return write_squares(tmp_path)


def train(run: Run, results: Path, deadline: Deadline | None = None, **execution: Any) -> None:
    finetune(run, results, EXECUTION.model_copy(update=execution), deadline or Deadline())


def numbers(run: Run, results: Path) -> list[dict[str, Any]]:
    return timeless_metrics(run.folder(results).metrics)


def test_loss_falls_and_the_files_are_there(results: Path) -> None:
    plain = {"photometric_probability": 0.0, "scale": (1.0, 1.0)}
    augmentation = RECIPE.augmentation.model_copy(update=plain)
    recipe = RECIPE.model_copy(update={"augmentation": augmentation})
    run = make(changed(recipe, iterations=24, batch_size=4))
    train(run, results, log_every=6)
    lines = numbers(run, results)
    assert [line["step"] for line in lines] == [6, 12, 18, 24]
    assert lines[-1]["loss"] < 0.75 * lines[0]["loss"]
    assert lines[-1]["accuracy"] > 0.7
    assert lines[-1]["lr"] == pytest.approx((0.05 - 1e-4) * (1 / 24) ** 0.9 + 1e-4)
    folder = run.folder(results)
    done = json.loads(folder.done.read_text())
    assert done["steps"] == 24
    assert done["last"]["loss"] == lines[-1]["loss"]
    assert {"seconds", "samples_per_second", "data_wait"} <= done.keys()
    assert json.loads(folder.recipe.read_text())["tags"]["stage"] == "finetune"
    assert load_segmentor(folder.model).conv_seg.out_channels == 3
    assert not folder.state.exists()


@pytest.mark.parametrize("backbone", [RESNET, VIT], ids=["sgd", "adamw"])
@pytest.mark.parametrize("steps", [1, 3])
def test_interrupted_equals_uninterrupted(
    results: Path, backbone: ResNetSettings | ViTSettings, steps: int
) -> None:
    recipe = RECIPE.model_copy(update={"backbone": backbone})
    if backbone is VIT:
        recipe = changed(
            recipe,
            optimizer=AdamWSettings(
                kind="adamw", lr=1e-3, weight_decay=0.01, no_decay="norm-pos-cls"
            ),
            poly=PolySettings(power=1.0, min_lr=0.0, warmup_iterations=3),
        )
    whole, parts = make(recipe, name="run"), make(recipe, name="run-in-parts")
    train(whole, results)
    stops = 0
    while not parts.is_done(results):
        try:
            train(parts, results, StopAfter(steps))
        except StoppedForResumeError:
            stops += 1
    assert stops >= STEPS // steps - 1
    assert_equal(whole, parts, results)


def assert_equal(whole: Run, parts: Run, results: Path) -> None:
    expected = load_segmentor(whole.folder(results).model).state_dict()
    found = load_segmentor(parts.folder(results).model).state_dict()
    for key, tensor in expected.items():
        assert torch.equal(tensor, found[key]), key
    assert numbers(whole, results) == numbers(parts, results)
    assert [line["step"] for line in numbers(whole, results)] == [2, 4, 6, 7]


def test_killed_after_a_save_equals_uninterrupted(results: Path) -> None:
    whole, parts = make(name="run"), make(name="run-killed")
    train(whole, results)
    with pytest.raises(KeyboardInterrupt):  # after step 5 was done and logged, before its save
        train(parts, results, StopAfter(5, KeyboardInterrupt), save_minutes=0)
    wait_for_saves()
    assert parts.folder(results).state.exists()
    train(parts, results)
    log = parts.folder(results).log.read_text()
    assert re.search(r"resumed at step [1-4]\b", log)  # a slow disk skips saves
    assert_equal(whole, parts, results)


def test_mixed_precision_resumes_too(results: Path) -> None:
    recipe = RECIPE.model_copy(update={"amp": "bf16"})
    whole, parts = make(recipe, name="run"), make(recipe, name="run-in-parts")
    train(whole, results)
    with pytest.raises(StoppedForResumeError, match="saved at step 4 because the test says so"):
        train(parts, results, StopAfter(4))
    train(parts, results)
    assert_equal(whole, parts, results)


@pytest.mark.parametrize(("room", "kept"), [(0, 0), (1, IMAGES), (None, IMAGES)])
def test_images_in_memory_change_no_number(
    results: Path, monkeypatch: pytest.MonkeyPatch, room: int | None, kept: int
) -> None:
    monkeypatch.setattr(loop, "available_memory", lambda: 10**6)
    run = make()
    train(run, results, keep_decoded_mb=room)
    assert f"in memory: {kept} of {IMAGES}" in run.folder(results).log.read_text()
    other = make(name="other")
    train(other, results, keep_decoded_mb=0)
    assert "0 MB of at most 0 MB; others were decoded" in other.folder(results).log.read_text()
    assert numbers(run, results) == numbers(other, results)


def test_short_memory_is_left_to_others(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "available_memory", lambda: 10**6)
    monkeypatch.setattr(decoded, "available_memory", lambda: 10**6 // 4 - 1)
    monkeypatch.setattr(decoded, "CHECK_BYTES", 2 * 4 * 40 * 48)
    run = make()
    train(run, results)
    log = run.folder(results).log.read_text()
    assert f"in memory: 2 of {IMAGES}, 0 MB until memory ran short; others" in log


def test_seed_changes_the_run(results: Path) -> None:
    first, second = make(name="first"), make(name="second", seed=1)
    train(first, results)
    train(second, results)
    assert numbers(first, results)[-1]["loss"] != numbers(second, results)[-1]["loss"]


class TestStartingWeights:
    def write(self, results: Path, key: str, classes: int = 3, **heads: Any) -> dict[str, Any]:
        """The weights of a checkpoint or pretraining, as their stages write them."""
        torch.manual_seed(7)
        model = build_segmentor(RESNET, HEAD.model_copy(update=heads), classes)
        stage, name = key.split("/")
        folder = results / ("checkpoints" if stage == "checkpoint" else "pretrain") / name
        file = "backbone.safetensors" if stage == "checkpoint" else "model.safetensors"
        head = model.head.state_dict() if name == "cp2" else None
        parts = {"backbone": model.backbone.state_dict(), "head": head}
        save_weights(folder / file, parts, {})
        return parts

    @pytest.mark.parametrize("pretrained_head", [True, False])
    @pytest.mark.parametrize("origin", ["pretrain/cp2", "checkpoint/cp2"])
    def test_head_is_loaded_when_asked_for(
        self, results: Path, origin: str, pretrained_head: bool
    ) -> None:
        parts = self.write(results, origin)
        recipe = RECIPE.model_copy(update={"pretrained_head": pretrained_head})
        torch.manual_seed(0)
        model, _ = build(recipe, origin, results)
        for key, tensor in model.backbone.state_dict().items():
            assert torch.equal(tensor, parts["backbone"][key]), key
        weight = model.head.state_dict()["convs.0.conv.weight"]
        assert torch.equal(weight, parts["head"]["convs.0.conv.weight"]) is pretrained_head

    def test_checkpoint_gives_the_backbone(self, results: Path) -> None:
        parts = self.write(results, "checkpoint/moco")
        model, _ = build(RECIPE, "checkpoint/moco", results)
        assert torch.equal(model.backbone.conv1.weight, parts["backbone"]["conv1.weight"])  # type: ignore[arg-type, union-attr]

    def test_from_nothing_weights_are_random(self, results: Path) -> None:
        torch.manual_seed(0)
        first, notes = build(RECIPE, None, results)
        second, _ = build(RECIPE, None, results)
        assert notes == []
        assert not torch.equal(first.conv_seg.weight, second.conv_seg.weight)

    def test_a_checkpoint_without_head_is_refused(self, results: Path) -> None:
        self.write(results, "checkpoint/moco")
        recipe = RECIPE.model_copy(update={"pretrained_head": True})
        with pytest.raises(WrongFile, match=r"backbone\.safetensors holds no head"):
            build(recipe, "checkpoint/moco", results)
        with pytest.raises(UserError, match="the run starts from none"):
            build(recipe, None, results)

    def test_a_mismatch_lists_what_differs(self, results: Path) -> None:
        self.write(results, "pretrain/cp2", channels=16)
        recipe = RECIPE.model_copy(update={"pretrained_head": True})
        with pytest.raises(WrongFile, match=r"does not fit the head[\s\S]*convs\.0\.conv\.weight"):
            build(recipe, "pretrain/cp2", results)
        other = RESNET.model_copy(
            update={"args": {"layers": [1, 1, 1, 2], "channels": [8, 8, 16, 16]}}
        )
        with pytest.raises(WrongFile, match=r"missing: layer4\.1\."):
            build(
                RECIPE.model_copy(update={"backbone": other}),
                "pretrain/cp2",
                results,
            )


def test_a_loss_that_is_not_finite_names_step_and_term(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def spoiled(*arguments: torch.Tensor, align_corners: bool) -> dict[str, torch.Tensor]:
        calls.append(1)
        terms = segmentation_terms(*arguments, align_corners)
        return terms if len(calls) < 3 else terms | {"loss": terms["loss"] * float("inf")}

    monkeypatch.setattr(loop, "segmentation_terms", spoiled)
    run = make()
    with pytest.raises(UserError, match="step 3: loss is inf"):
        train(run, results)
    assert not run.is_done(results)


def test_label_fraction_is_nested_and_seeded(results: Path) -> None:
    index = read_index(results / "datasets" / "squares")

    def files(fraction: float, seed: int) -> set[bytes]:
        recipe = RECIPE.model_copy(update={"label_fraction": fraction})
        return {bytes(row[0]) for row in build_dataset(index, recipe, seed, EXECUTION)._paths}

    assert len(files(1.0, 0)) == IMAGES
    assert len(files(0.5, 0)) == 3
    assert files(1 / 6, 0) < files(0.5, 0)
    assert len({frozenset(files(0.5, seed)) for seed in range(5)}) > 1


class TestTerms:
    def test_against_a_slow_loop(self) -> None:
        torch.manual_seed(0)
        logits = torch.randn(2, 3, 4, 5)
        labels = torch.randint(0, 3, (2, 4, 5))
        labels[0, :2] = IGNORE
        loss, right, labelled = 0.0, 0, 0
        for n, i, j in np.ndindex(2, 4, 5):
            if labels[n, i, j] != IGNORE:
                scores = logits[n, :, i, j].double().exp()
                loss -= float((scores[labels[n, i, j]] / scores.sum()).log())
                right += int(scores.argmax() == labels[n, i, j])
                labelled += 1
        terms = segmentation_terms(logits, labels)
        assert terms["loss"].item() == pytest.approx(loss / labels.numel(), rel=1e-5)
        assert [int(part) for part in terms["accuracy"]] == [right, labelled]

    def test_logits_are_enlarged_to_the_labels(self) -> None:
        logits = torch.randn(1, 3, 2, 2)
        labels = torch.randint(0, 3, (1, 8, 8))
        large = torch.nn.functional.interpolate(logits, scale_factor=4, mode="bilinear")
        found, expected = segmentation_terms(logits, labels), segmentation_terms(large, labels)
        assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-6)

    def test_nothing_labelled_costs_nothing(self) -> None:
        terms = segmentation_terms(torch.randn(1, 3, 2, 2), torch.full((1, 4, 4), IGNORE))
        assert terms["loss"].item() == 0
        assert [int(part) for part in terms["accuracy"]] == [0, 0]


def test_dropout_is_a_function_of_seed_and_step() -> None:
    def draw(seed: int, step: int) -> list[float]:
        torch.rand(step + 3)  # whatever was drawn before
        seed_dropout(seed, step)
        return torch.rand(4).tolist()

    assert draw(0, 5) == draw(0, 5)
    assert len({tuple(draw(*at)) for at in [(0, 5), (0, 6), (1, 5)]}) == 3
    assert counters.FINETUNE_DROPOUT not in (counters.FINETUNE_ORDER, counters.FINETUNE_SAMPLES)


def test_a_look_at_the_validation_split_changes_no_weight(results: Path) -> None:
    folder = results / "datasets/squares"
    items = read_index(folder).items
    tiny.write_labelled(
        folder, [*items, *(i._replace(split="val") for i in items)], CLASSES, COLOURS
    )
    run, looked = make(), make(name="two")
    train(run, results)
    train(looked, results, validate_every=3)
    lines = numbers(looked, results)
    assert [line["step"] for line in lines if "val/miou" in line] == [4, 6]  # after 3 and 6
    train(make(name="three"), results, validate_every=7)
    *_, last = numbers(make(name="three"), results)
    models = [one.folder(results).model for one in (run, looked)]
    assert models[0].read_bytes()[-1000:] == models[1].read_bytes()[-1000:]
    model, right, asked = load_segmentor(models[0]).eval(), 0, 0
    for item in items:
        image = decode_rgb(folder / item.image).float() / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        pixels = torch.nn.functional.interpolate(image[None] * 255, size=(32, 38), mode="bilinear")
        logits = model((pixels.round() / 255 - mean) / std)
        for size in ((32, 38), (40, 48)):
            logits = torch.nn.functional.interpolate(logits, size=size, mode="bilinear")
        label = torch.from_numpy(np.array(Image.open(folder / item.label)))
        right += int((logits.argmax(1)[0] == label).sum())
        asked += int((label != IGNORE).sum())
    assert last["step"] == STEPS
    assert last["val/accuracy"] == pytest.approx(right / asked, abs=0.01)

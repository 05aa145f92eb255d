"""The evaluate stage from files to files."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from cp2.data.index import Item
from cp2.data.labels import IGNORE
from cp2.errors import UserError, WrongFile
from cp2.models.segmentor_files import build_segmentor, save_segmentor
from cp2.plan.graph import Run
from cp2.plan.protocols.segmentation import SegmentationEvaluateRecipe
from cp2.protocols.registry import evaluate
from cp2.protocols.segmentation.evaluation import Waited
from cp2.settings.campaign import Execution
from cp2.settings.models import FcnSettings
from cp2.settings.protocols.segmentation import InferenceSettings

IMAGES = 3
BACKBONE = tiny.resnet()
HEAD = FcnSettings(kind="fcn", name="tiny", title="", channels=8, convs=1, dilation=1)
RECIPE = SegmentationEvaluateRecipe(
    dataset="strips", split="val", resize=(32, 128), inference=InferenceSettings(), pictures=2
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Images of different sizes whose upper quarter is class 1, and a constant model."""
    folder = tmp_path / "datasets" / "strips"
    folder.mkdir(parents=True)
    items = []
    for i in range(IMAGES):
        label = np.zeros((40 + 4 * i, 50), dtype=np.uint8)
        label[: 10 + i] = 1
        label[-1] = IGNORE
        Image.fromarray(np.stack([label * 50] * 3, axis=2)).save(folder / f"{i}.png")
        Image.fromarray(label).save(folder / f"{i}-label.png")
        items.append(Item("val", f"{i}.png", f"{i}-label.png"))
    classes = ("low", "high", "never")
    palette = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
    tiny.write_labelled(folder, items, classes, palette)
    write_constant_model(tmp_path, classes=3)
    return tmp_path


def write_constant_model(results: Path, classes: int) -> None:
    """A model that always says class 0."""
    model = build_segmentor(BACKBONE, HEAD, classes)
    torch.nn.init.zeros_(model.conv_seg.weight)
    with torch.no_grad():
        model.conv_seg.bias[0] = 1
    save_segmentor(
        results / "finetune" / "trained" / "model.safetensors", model, BACKBONE, HEAD, "trained"
    )


def make(recipe: SegmentationEvaluateRecipe = RECIPE) -> Run:
    needs = ("dataset/strips", "finetune/trained")
    return Run("evaluate", "scored", "", recipe, 0, needs, {"dataset": "strips"})


def run(
    results: Path, recipe: SegmentationEvaluateRecipe = RECIPE, workers: int = 0
) -> dict[str, Any]:
    evaluate(make(recipe), results, Execution(workers=workers))
    scores: dict[str, Any] = json.loads(make().folder(results).scores.read_text())
    return scores


def test_scores_of_a_constant_model(results: Path) -> None:
    scores = run(results)
    high = sum((10 + i) * 50 for i in range(IMAGES))
    labelled = sum((39 + 4 * i) * 50 for i in range(IMAGES))
    low = (labelled - high) / labelled
    assert scores == {
        "metrics": {
            "miou": pytest.approx(low / 2),
            "accuracy": pytest.approx(low),
            "mean_accuracy": 0.5,
        },
        "per_class": {"low": pytest.approx(low), "high": 0.0, "never": None},
        "images": IMAGES,
        "dataset": "strips",
        "split": "val",
        "mode": "whole",
    }
    folder = make().folder(results)
    with np.load(folder.path / "confusion.npz") as file:
        assert file["matrix"].tolist() == [[labelled - high, 0, 0], [high, 0, 0], [0, 0, 0]]
        assert file["classes"].tolist() == ["low", "high", "never"]
    assert sorted(path.name for path in folder.pictures.iterdir()) == ["0000.png", "0001.png"]
    done = json.loads(folder.done.read_text())
    assert done["metrics"] == scores["metrics"]
    assert done["images"] == IMAGES
    assert make().is_done(results)


def test_sliding_windows_and_workers(results: Path) -> None:
    settings = InferenceSettings(mode="slide", window=(16, 16), stride=(8, 8))
    scores = run(results, RECIPE.model_copy(update={"inference": settings}), workers=1)
    assert scores["mode"] == "slide"
    assert scores["metrics"] == pytest.approx(run(results)["metrics"])  # a constant stays one


def test_waiting_is_counted_and_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def slow() -> Iterator[int]:
        for item in range(3):
            now[0] += 2
            yield item

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    stream = Waited(slow())
    for _ in stream:
        now[0] += 100
    assert stream.seconds == 6


def test_the_record_holds_the_share_of_waiting(results: Path) -> None:
    run(results)
    done = json.loads(make().folder(results).done.read_text())
    assert 0 < done["data_wait"] < 1


def test_model_of_another_data_set(results: Path) -> None:
    write_constant_model(results, classes=5)
    with pytest.raises(UserError, match="predicts 5 classes, data set strips has 3"):
        run(results)


def test_unfinished_finetuning(results: Path) -> None:
    (results / "finetune" / "trained" / "model.safetensors").unlink()
    with pytest.raises(WrongFile, match="run the stage that makes it"):
        run(results)


def test_pretrained_model_is_not_a_finetuned_one(results: Path) -> None:
    from cp2.models.weights import save_weights

    model = build_segmentor(BACKBONE, HEAD, 3)
    path = results / "finetune" / "trained" / "model.safetensors"
    save_weights(path, {"backbone": model.backbone.state_dict()}, {"run": "pretrain"})
    with pytest.raises(WrongFile, match="is not a finetuned model"):
        run(results)

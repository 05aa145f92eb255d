"""What joins a detector's verified parts: counts, first weights, colours, truths, scores."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import resnet, write_labelled
from torch import Tensor, nn

from cp2.augment.geometry import fitted_size
from cp2.data.annotations import ImageObject, read_objects, write_objects
from cp2.data.index import Item
from cp2.plan.graph import make_run
from cp2.plan.protocols.detection import DetectionEvaluateRecipe
from cp2.plan.recipes import DatasetRecipe
from cp2.protocols.detection import evaluation
from cp2.protocols.detection.evaluation import as_truth
from cp2.protocols.detection.files import build_detector
from cp2.protocols.detection.finetuning import on_device
from cp2.protocols.detection.networks import Detector
from cp2.protocols.detection.roi_heads import BoxPredictor, Detections
from cp2.protocols.detection.rpn import Kept
from cp2.protocols.detection.samples import DetectionImages
from cp2.settings.campaign import Execution
from cp2.settings.datasets import DatasetSettings
from cp2.settings.protocols.detection import DetectionTraining, DetectorSettings

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAMES = ("cat", "dog")
EXECUTION = Execution(workers=0)


def detector(kind: Literal["c4", "fpn"]) -> Detector:
    """With heads wide enough to measure the deviation of their weights."""
    settings = DetectorSettings(kind=kind, width=64, hidden=128, masks=kind == "fpn")
    return build_detector(settings, resnet((32, 32, 64, 64), output_stride=32), 20)


@pytest.mark.parametrize(
    ("kind", "training", "testing"),
    [
        ("c4", Kept(12000, 2000), Kept(6000, 1000)),  # detectron2's Base-RCNN-C4.yaml
        ("fpn", Kept(2000, 1000), Kept(1000, 1000)),  # Base-RCNN-FPN.yaml
    ],
)
def test_so_many_proposals_are_kept(
    kind: Literal["c4", "fpn"], training: Kept, testing: Kept
) -> None:
    rpn = detector(kind).rpn
    assert (rpn._training, rpn._testing) == (training, testing)


@pytest.mark.parametrize("kind", ["c4", "fpn"])
def test_new_layers_start_as_detectron2s(kind: Literal["c4", "fpn"]) -> None:
    torch.manual_seed(0)
    model = detector(kind)
    layers: list[tuple[nn.Module, float]] = [
        (model.rpn.conv, 0.01),
        (model.rpn.objectness, 0.01),
        (model.rpn.deltas, 0.01),
        (model.predictor.cls_score, 0.01),
        (model.predictor.bbox_pred, 0.001),
    ]
    if model.mask_head is not None:
        layers.append((model.mask_head.predictor, 0.001))
    for layer, deviation in layers:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.15)
        assert layer.bias is not None
        assert not layer.bias.any()


def test_pixels_are_red_green_blue_and_normalised_in_training(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), (250, 20, 90)).save(tmp_path / "0.png")
    write_objects(tmp_path / "0.json", (8, 6), [ImageObject("cat", (1, 1, 6, 5), False)])
    settings = DetectionTraining(short_sides=(6,), long_side=8)
    data = DetectionImages([tmp_path / "0.png"], [tmp_path / "0.json"], NAMES, settings, 0)
    (image,), _, _ = on_device([data[(0, 0)]], torch.device("cpu"))
    wanted = (torch.tensor([250, 20, 90]) / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    torch.testing.assert_close(image, wanted[:, None, None].expand(3, 6, 8))


def test_an_image_is_not_resized_to_nothing(tmp_path: Path) -> None:
    assert fitted_size(1, 3000, (800, 1333)) == (1, 1333)
    Image.new("RGB", (3000, 1)).save(tmp_path / "0.png")
    assert evaluation.TestImages([tmp_path / "0.png"], 800, 1333)[0].resized.shape == (3, 1, 1333)
    Image.new("RGB", (40, 30)).save(tmp_path / "1.png")
    assert evaluation.TestImages([tmp_path / "1.png"], 60, 100)[0].resized.shape == (3, 60, 80)


def test_truth_has_the_whole_pixels_of_the_annotation(tmp_path: Path) -> None:
    (tmp_path / "0.xml").write_text(
        "<annotation><object><name>dog</name><difficult>1</difficult><bndbox><xmin>3</xmin>"
        "<ymin>1</ymin><xmax>7.9</xmax><ymax>6</ymax></bndbox></object></annotation>"
    )
    truth = as_truth([[], read_objects(tmp_path / "0.xml", NAMES)], NAMES)
    assert truth.boxes.tolist() == [[3, 1, 7, 6]]
    assert (truth.images.tolist(), truth.classes.tolist()) == ([1], [1])
    assert truth.difficult.tolist() == [True]


BOXES = [[10.0, 10.0, 50.0, 50.0], [30.0, 5.0, 70.0, 45.0]]  # of a cat and a dog


class Oracle(nn.Module):
    """Finds the objects where they are, or so many pixels to the right, in a resized image."""

    mask_head = None

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift
        self.predictor = BoxPredictor(1, len(NAMES))

    def detect(self, images: list[Tensor]) -> list[Detections]:
        assert images[0].shape[1:] == (120, 160)
        boxes = 2 * (torch.tensor(BOXES) + self.shift * torch.tensor([1.0, 0, 1, 0]))
        return [Detections(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]))]


@pytest.mark.parametrize("score", ["voc2007", "voc2012", "coco"])
@pytest.mark.parametrize(
    ("shift", "most"),  # a box of 40 pixels moved by 8 is overlapped by 32 of 48: two thirds
    [(0.0, 1.0), (8.0, 0.65)],
)
def test_what_a_detector_finds_is_scored_in_the_stored_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, score: str, shift: float, most: float
) -> None:
    folder = tmp_path / "datasets" / "pair"
    folder.mkdir(parents=True)
    objects = [
        ImageObject(name, (x0, y0, x1, y1), False, area=1600.0)
        for name, (x0, y0, x1, y1) in zip(NAMES, BOXES, strict=True)
    ]
    for number in range(2):
        Image.new("RGB", (80, 60), (number, 0, 0)).save(folder / f"{number}.png")
        write_objects(folder / f"{number}.json", (80, 60), objects)
    items = [Item(split, f"{n}.png", f"{n}.json") for n, split in enumerate(("train", "test"))]
    write_labelled(folder, items, NAMES, ((255, 0, 0), (0, 255, 0)))
    monkeypatch.setattr(evaluation, "load_detector", lambda path: Oracle(shift))
    data = DatasetRecipe(
        dataset=DatasetSettings(kind="images", name="pair", title="", root="x"), classes=None
    )
    dataset = make_run("dataset", "pair", data, [], {}, plain_name=True)
    recipe = DetectionEvaluateRecipe(
        dataset="pair", split="test", short_side=120, long_side=200, score=score, pictures=1
    )
    trained = replace(dataset, stage="finetune", id="any")
    run = make_run("evaluate", "oracle", recipe, [dataset, trained], {}, 0)
    found = evaluation.evaluate(run, tmp_path, EXECUTION, torch.device("cpu"))
    thresholds = np.arange(0.5, 1, 0.05)
    assert found.metrics["ap50"] == pytest.approx(1)
    assert found.metrics["ap75"] == pytest.approx(float(most > 0.75))
    assert found.metrics["ap"] == pytest.approx((thresholds <= most + 1e-9).mean())
    assert set(found.per_class) == set(NAMES)

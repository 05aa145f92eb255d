"""Detectors on drawn squares: learning, resume, scores, refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attempts import StopAfter, timeless_metrics
from PIL import Image
from tiny import resnet, write_labelled
from torch import nn
from torchvision.ops import roi_align
from trainings import Training, train_on_two

from cp2.data.annotations import ImageObject, write_objects
from cp2.data.index import Item
from cp2.errors import UserError
from cp2.models.backbones import build_backbone
from cp2.models.weights import save_weights
from cp2.plan.graph import Run, make_run
from cp2.plan.protocols.detection import DetectionEvaluateRecipe, DetectionFinetuneRecipe
from cp2.plan.recipes import DatasetRecipe
from cp2.protocols.detection import roi_heads
from cp2.protocols.detection.coco_scores import as_coco_results, as_coco_truth, coco_scores
from cp2.protocols.detection.files import build_detector, load_detector
from cp2.protocols.detection.finetuning import finetune
from cp2.protocols.detection.masks import encoded, mask_targets
from cp2.protocols.detection.networks import C4Detector
from cp2.protocols.detection.samples import DetectionImages, grouped_batches, moved_mask
from cp2.protocols.detection.voc_scores import Found
from cp2.protocols.registry import evaluate
from cp2.settings.campaign import Execution
from cp2.settings.datasets import DatasetSettings
from cp2.settings.optimization import StepSettings
from cp2.settings.protocols.detection import COCO_NUMBERS, DetectionTraining, DetectorSettings
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.optimizers import Precision, step_lr

NAMES, COLOURS = ("red", "blue"), ((220, 30, 30), (30, 30, 220))
EXECUTION = Execution(workers=0, log_every=1)
TRAINING = DetectionTraining(
    short_sides=(48, 64),
    long_side=100,
    batch_size=4,
    iterations=4,
    step=StepSettings(milestones=(0.75,), warmup_iterations=2),
    precise_norm=2,
)
ANCHORS = (8.0, 12.0, 16.0, 24.0, 32.0)


def annotation(objects: list[tuple[str, list[int]]]) -> str:
    boxes = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x0 + 1}</xmin>"
        f"<ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in objects
    )
    return f"<annotation>{boxes}</annotation>"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with data sets of coloured squares on noise, one image without any: with
    VOC's boxes, and with COCO's masks, of which some are runs and one a crowd's."""
    folders = [tmp_path / "datasets" / name for name in ("squares", "instances")]
    for folder in folders:
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    items: dict[str, list[Item]] = {".xml": [], ".json": []}
    for number in range(16):
        height, width = (48, 64) if number % 3 else (64, 48)
        pixels = rng.integers(90, 150, (height, width, 3), dtype=np.uint8)
        objects = []
        for kind in range(2 if number else 0):
            side = int(rng.integers(12, 20))
            x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
            pixels[y : y + side, x : x + side] = COLOURS[kind]
            objects.append((NAMES[kind], [x, y, x + side, y + side]))
        for folder in folders:
            Image.fromarray(pixels).save(folder / f"{number}.png")
        (folders[0] / f"{number}.xml").write_text(annotation(objects))
        size = (width, height)
        masked = [instance(name, box, size, number) for name, box in objects]
        write_objects(folders[1] / f"{number}.json", size, masked)
        split = "train" if number < 12 else "test"
        for suffix, listed in items.items():
            listed.append(Item(split, f"{number}.png", f"{number}{suffix}"))
    for folder, listed in zip(folders, items.values(), strict=True):
        write_labelled(folder, listed, NAMES, COLOURS)
    return tmp_path


def instance(name: str, box: list[int], size: tuple[int, int], number: int) -> ImageObject:
    """A square with its mask: polygons, or runs where the image's number is odd."""
    x0, y0, x1, y1 = box
    mask: Any = [[float(side) for side in (x0, y0, x1, y0, x1, y1, x0, y1)]]
    if number % 2:
        pixels = np.zeros(size[::-1], bool)
        pixels[y0:y1, x0:x1] = True
        edges = np.flatnonzero(np.diff(pixels.ravel("F"), prepend=False, append=False))
        runs = np.diff(edges, prepend=0, append=pixels.size).tolist()
        mask = {"counts": runs, "size": list(size[::-1])}
    crowd = number == 5 and name == "red"
    sides = (float(x0), float(y0), float(x1), float(y1))
    return ImageObject(name, sides, crowd, crowd, float((x1 - x0) * (y1 - y0)), mask)


@pytest.fixture
def runs() -> Callable[..., tuple[Run, Run]]:
    """The finetuning of a detector, and its evaluation."""

    def make(kind: str, name: str = "run", **changes: Any) -> tuple[Run, Run]:
        masks = kind == "masks"
        dataset = "instances" if masks else "squares"
        settings = DatasetSettings(kind="images", name=dataset, title="", root="squares")
        data = make_run(
            "dataset",
            dataset,
            DatasetRecipe(dataset=settings, classes=None),
            [],
            {},
            plain_name=True,
        )
        recipe = DetectionFinetuneRecipe(
            dataset=dataset,
            backbone=resnet(output_stride=32),
            classes=2,
            detector=DetectorSettings(
                kind="fpn" if masks else kind,
                anchors=ANCHORS,
                regions=32,
                width=16,
                hidden=32,
                masks=masks,
            ),
            training=TRAINING.model_copy(update=changes),
            amp="off",
        )
        trained = make_run("finetune", name, recipe, [data], {}, 0)
        scored = DetectionEvaluateRecipe(
            dataset=dataset,
            split="test",
            short_side=64,
            long_side=100,
            score="coco" if masks else "voc2007",
            pictures=2,
        )
        return trained, make_run("evaluate", name, scored, [data, trained], {}, 0)

    return make


def weights(run: Run, results: Path) -> dict[str, torch.Tensor]:
    return load_detector(run.folder(results).model).state_dict()


def numbers(run: Run, results: Path) -> list[dict[str, Any]]:
    return timeless_metrics(run.folder(results).metrics)


@pytest.mark.parametrize("kind", ["c4", "fpn", "masks"])
def test_interrupted_equals_uninterrupted(
    results: Path, runs: Callable[..., tuple[Run, Run]], kind: str
) -> None:
    (whole, _), (parts, _) = runs(kind), runs(kind, "parts")
    finetune(whole, results, EXECUTION, Deadline())
    for _ in range(2):
        with pytest.raises(StoppedForResumeError):
            finetune(parts, results, EXECUTION, StopAfter(1))
    finetune(parts, results, EXECUTION, Deadline())
    expected = load_detector(whole.folder(results).model).state_dict()
    found = load_detector(parts.folder(results).model).state_dict()
    for key, tensor in expected.items():
        assert torch.equal(tensor, found[key]), key
    assert numbers(whole, results) == numbers(parts, results)
    assert "11 of 12 images have objects" in whole.folder(results).log.read_text()


def test_a_stop_amid_the_statistics_of_norms(
    results: Path, runs: Callable[..., tuple[Run, Run]]
) -> None:
    """The trained weights are saved before; the statistics are made anew."""
    (whole, _), (parts, _) = (runs("c4", name, precise_norm=3) for name in ("run", "parts"))
    finetune(whole, results, EXECUTION, Deadline())
    for amid in (5, 2):  # steps of 4, then of the statistics
        with pytest.raises(StoppedForResumeError, match="saved at step 4 because"):
            finetune(parts, results, EXECUTION, StopAfter(amid))
    assert not parts.folder(results).model.exists()
    finetune(parts, results, EXECUTION, Deadline())
    assert weights(whole, results).keys() == weights(parts, results).keys()
    for key, tensor in weights(whole, results).items():
        assert torch.equal(tensor, weights(parts, results)[key]), key


def test_statistics_of_norms_are_those_of_the_last_weights(
    results: Path, runs: Callable[..., tuple[Run, Run]]
) -> None:
    """As PreciseBN makes them: only the running statistics move, and all of them."""
    (precise, _), (moving, _) = (runs("c4", f"run-{n}", precise_norm=n) for n in (2, 0))
    for run in (precise, moving):
        finetune(run, results, EXECUTION, Deadline())
    for key, tensor in weights(precise, results).items():
        if "num_batches" not in key:
            assert torch.equal(tensor, weights(moving, results)[key]) == ("running_" not in key)


def test_it_starts_from_the_pretrained_backbone_as_the_recipe_says(
    results: Path, runs: Callable[..., tuple[Run, Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights, the rate of each step, and no decay of norms, all as the optimiser has them."""
    settings = resnet(output_stride=32)
    torch.manual_seed(9)
    given = build_backbone(settings).state_dict()
    save_weights(results / "checkpoints/moco/backbone.safetensors", {"backbone": given}, {})
    trained = runs("fpn", lr=1e-9, weight_decay=0.5)[0]
    trained = replace(trained, needs=(*trained.needs, "checkpoint/moco"))
    seen = []

    def spy(self: Precision, optimizer: torch.optim.Optimizer) -> None:
        seen.append(
            [(g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups]
        )
        step(self, optimizer)

    step = Precision.step
    monkeypatch.setattr(Precision, "step", spy)
    finetune(trained, results, EXECUTION, Deadline())
    found = load_detector(trained.folder(results).model)
    for key, tensor in given.items():
        if "running_" not in key and "num_batches" not in key:
            torch.testing.assert_close(found.backbone.state_dict()[key], tensor, rtol=0, atol=1e-6)
    norms = sum(isinstance(one, nn.modules.batchnorm._BatchNorm) for one in found.modules())
    for number, groups in enumerate(seen):
        rate = step_lr(1e-9, TRAINING.step, number, 4)
        assert {lr for lr, _, _ in groups} == {rate}
        assert {decay: count for _, decay, count in groups}[0.0] == 2 * norms
        assert {decay for _, decay, _ in groups} == {0.0, 0.5}
    assert len(seen) == 4


@pytest.mark.parametrize("kind", ["c4", "masks"])
def test_mixed_precision_sees_the_same_regions(
    results: Path, runs: Callable[..., tuple[Run, Run]], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bfloat16 rounds features, not boxes: above 256 its numbers are two pixels apart."""
    dtypes = set()

    def spy(features: torch.Tensor, boxes: torch.Tensor, *args: Any, **options: Any) -> Any:
        dtypes.add((features.dtype, boxes.dtype))
        return roi_align(features, boxes, *args, **options)

    monkeypatch.setattr(roi_heads, "roi_align", spy)
    terms = []
    for amp in ("off", "bf16"):
        trained = runs(kind, f"run-{amp}", iterations=1, precise_norm=0)[0]
        trained = replace(trained, recipe=trained.recipe.model_copy(update={"amp": amp}))
        finetune(trained, results, EXECUTION, Deadline())
        terms.append(numbers(trained, results)[0])
    assert dtypes == {(torch.float32,) * 2, (torch.bfloat16, torch.float32)}
    for name, value in terms[0].items():
        if name.startswith("loss"):
            assert terms[1][name] == pytest.approx(value, rel=0.1), name


def test_what_is_not_learned_from(tmp_path: Path) -> None:
    """Crowds, objects without area, and, where masks are learned, those without one."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    square = instance("red", [2, 3, 20, 18], (64, 64), 1)
    flat = square._replace(box=(4.0, 5.0, 4.0, 9.0))
    others = [flat, square._replace(name="blue", mask=None)]
    crowd = square._replace(crowd=True)
    write_objects(tmp_path / "a.json", (64, 64), [square, crowd, *others])
    for masks, classes in ((False, [0, 1]), (True, [0])):
        files = [tmp_path / "a.png"], [tmp_path / "a.json"]
        data = DetectionImages(*files, NAMES, TRAINING, 0, masks)
        assert data[0, 0].classes.tolist() == classes


def test_a_mask_stays_with_its_object(tmp_path: Path) -> None:
    """Also behind one whose box is cut away at the image's end; objects without one are counted."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    outside = instance("red", [64, 3, 65, 18], (64, 64), 1)._replace(mask=[[64, 3, 65, 3, 65, 18]])
    inside = instance("blue", [2, 3, 20, 18], (64, 64), 1)
    bare = inside._replace(mask=None)
    write_objects(tmp_path / "a.json", (64, 64), [outside, inside, bare])
    data = DetectionImages([tmp_path / "a.png"], [tmp_path / "a.json"], NAMES, TRAINING, 0, True)
    sample = data[0, 0]
    assert data.maskless == 1
    assert (sample.classes.tolist(), len(sample.masks)) == ([NAMES.index("blue")], 1)
    assert mask_targets(sample.masks, sample.boxes).all()


@pytest.mark.parametrize("recompute", [False, True])
def test_the_network_is_as_configured(recompute: bool) -> None:
    settings = DetectorSettings(regions=7, recompute=recompute)
    model = build_detector(settings, resnet(output_stride=32), len(NAMES))
    assert isinstance(model, C4Detector)
    assert (model.regions, model._recompute) == (7, recompute)


def test_it_learns_and_is_scored(results: Path, runs: Callable[..., tuple[Run, Run]]) -> None:
    trained, scored = runs("fpn", iterations=16, lr=0.05)
    finetune(trained, results, EXECUTION, Deadline())
    lines = numbers(trained, results)
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    evaluate(scored, results, EXECUTION)
    folder = scored.folder(results)
    scores = json.loads(folder.scores.read_text())
    assert all(0 <= scores["metrics"][name] <= 1 for name in ("ap", "ap50", "ap75"))
    assert scores["per_class"].keys() == set(NAMES)
    assert len(list(folder.pictures.glob("*.png"))) == 2
    assert np.load(folder.path / "detections.npz")["boxes"].shape[1] == 4


def test_masks_are_learned_and_scored(results: Path, runs: Callable[..., tuple[Run, Run]]) -> None:
    trained, scored = runs("masks", iterations=16, lr=0.05)
    finetune(trained, results, EXECUTION, Deadline())
    lines = numbers(trained, results)
    assert lines[-1]["loss_mask"] < lines[0]["loss_mask"]
    evaluate(scored, results, EXECUTION)
    folder = scored.folder(results)
    scores = json.loads(folder.scores.read_text())
    known = {name for metric in COCO_NUMBERS for name in (metric, f"mask_{metric}")}
    assert {"ap", "mask_ap", "ar_100", "mask_ar_100"} <= scores["metrics"].keys() <= known
    assert set(scores.get("unscored", ())) == known - scores["metrics"].keys()
    assert scores["per_class"].keys() == scores["mask_per_class"].keys() == set(NAMES)
    assert len(list(folder.pictures.glob("*.png"))) == 2


@pytest.mark.parametrize("flip", [False, True])
def test_masks_move_with_their_image(flip: bool) -> None:
    """Polygons and runs of one square agree, wherever it goes."""
    box = [10, 20, 30, 40]
    found = [
        mask_targets([moved_mask(one.mask, (64, 48), (96, 72), flip)], torch.tensor([around]))
        for one in (instance("red", box, (48, 64), number) for number in (0, 1))
        for around in ([27.0, 30, 57, 60] if flip else [15.0, 30, 45, 60],)
    ]
    assert found[0].all()
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", ["c4", "fpn", "masks"])
def test_two_processes_give_the_numbers_of_one(
    results: Path, runs: Callable[..., tuple[Run, Run]], tmp_path: Path, kind: str
) -> None:
    """Images of other sizes, batch norms over regions of both, statistics in the end."""
    one, two = (runs(kind, name, iterations=2, lr=1e-3)[0] for name in ("one", "two"))
    finetune(one, results, EXECUTION, Deadline())
    train_on_two([Training(two, results, EXECUTION)], tmp_path)
    (first, *_), (same, *_) = numbers(one, results), numbers(two, results)
    for name, value in first.items():
        assert same[name] == pytest.approx(value, rel=1e-4), name
    expected = load_detector(one.folder(results).model).state_dict()
    found = load_detector(two.folder(results).model).state_dict()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-3, atol=1e-4)


def test_batches_hold_images_of_one_shape_and_follow_from_the_seed() -> None:
    wide = np.arange(10) % 3 > 0
    batches = [batch for batch, _ in zip(grouped_batches(wide, 4, 7), range(20), strict=False)]
    for batch in batches:
        assert len({bool(wide[index]) for _, index in batch}) == 1
    seen = [place for batch in batches for place in batch]
    assert len(set(seen)) == len(seen)
    again = grouped_batches(wide, 4, 7)
    assert [next(again) for _ in range(20)] == batches


def test_objects_as_detections_are_all_right() -> None:
    """Of both kinds, with a crowd, whose detection counts for nothing."""
    objects = [
        [instance(name, [2, 3, 20, 18], (48, 40), number) for name in NAMES] for number in range(6)
    ]
    truth = as_coco_truth(objects, [(40, 48)] * 6, NAMES)
    boxes = np.array([one.box for these in objects for one in these])
    found = Found(np.arange(12) // 2, np.arange(12) % 2, np.ones(12), boxes)
    masks = [encoded(one.mask, (40, 48)) for these in objects for one in these]
    for kind in ("bbox", "segm"):
        scores = coco_scores(truth, as_coco_results(found, masks), kind)
        assert scores.values["ap"] == scores.values["ar_100"] == pytest.approx(1.0)
        assert scores.per_category == pytest.approx([1.0, 1.0])


def test_a_data_set_without_objects_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "a.xml").write_text(annotation([]))
    with pytest.raises(UserError, match="no training image has an object"):
        DetectionImages([tmp_path / "a.png"], [tmp_path / "a.xml"], NAMES, TRAINING, 0)


def test_micro_batches_are_refused(results: Path, runs: Callable[..., tuple[Run, Run]]) -> None:
    execution = EXECUTION.model_copy(update={"accumulate": {"finetune": 2}})
    with pytest.raises(UserError, match="see the whole batch"):
        finetune(runs("c4")[0], results, execution, Deadline())

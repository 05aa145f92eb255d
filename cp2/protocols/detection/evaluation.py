"""Scores of a detector: average precision on the test split, per class, and pictures."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.ops import clip_boxes_to_image
from tqdm import tqdm

from cp2.augment.distortion import normalize
from cp2.augment.geometry import fitted_size
from cp2.data.annotations import ImageObject, read_objects
from cp2.data.images import decode_rgb
from cp2.data.index import read_index
from cp2.data.loading import Batches
from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.plan.protocols.detection import DetectionEvaluateRecipe
from cp2.protocols.detection.boxes import has_area
from cp2.protocols.detection.coco_scores import as_coco_results, as_coco_truth, coco_scores
from cp2.protocols.detection.files import load_detector
from cp2.protocols.detection.masks import paste, runs_of
from cp2.protocols.detection.networks import Detector
from cp2.protocols.detection.pictures import write_picture
from cp2.protocols.detection.roi_heads import Detections
from cp2.protocols.detection.rpn import Size
from cp2.protocols.detection.samples import resize
from cp2.protocols.detection.voc_scores import Found, Truth, voc_average_precision
from cp2.protocols.registry import Scored, checked_classes, picture_indices
from cp2.record.files import whole_file
from cp2.record.readers import UNSCORED
from cp2.settings.campaign import Execution

DETECTIONS = "detections.npz"
Judged = tuple[dict[str, float], dict[str, npt.NDArray[np.float64]]]  # metrics, values of classes


class TestImage(NamedTuple):
    """One image of a split: as stored and as the network sees it, uint8 (3, h, w)."""

    image: Tensor
    resized: Tensor


class TestImages(Dataset[TestImage]):
    """A split in its own order."""

    def __init__(self, paths: list[Path], short: int, long: int) -> None:
        self._paths, self._sides = paths, (short, long)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> TestImage:
        image = decode_rgb(self._paths[index])
        size = fitted_size(image.shape[1], image.shape[2], self._sides)
        return TestImage(image, resize(image, size))


def evaluate(run: Run, results: Path, execution: Execution, device: torch.device) -> Scored:
    """See `cp2.protocols.registry.evaluate`; writes detections.npz and pictures/."""
    recipe, folder = run.recipe, run.folder(results)
    assert isinstance(recipe, DetectionEvaluateRecipe)
    index = read_index(run.needed_folder("dataset", results).path)
    path = run.needed_folder("finetune", results).model
    model = load_detector(path).to(device).eval()
    names = checked_classes(index, model.predictor.classes, path)
    objects = [read_objects(one, names) for one in index.labels(recipe.split)]
    images = TestImages(index.paths(recipe.split), recipe.short_side, recipe.long_side)
    shown = set(picture_indices(len(images), recipe.pictures))
    found, sizes = [], []
    masks: list[Any] | None = None if model.mask_head is None else []
    for number, (image, detections) in enumerate(_detections(model, images, execution, device)):
        size: Size = (image.shape[1], image.shape[2])
        found.append(replace(detections, masks=None))
        sizes.append(size)
        pasted = None
        if masks is not None and detections.masks is not None:
            pasted = paste(detections.masks, detections.boxes, size).cpu().numpy()
            masks += runs_of(pasted)
        if number in shown:
            path = folder.pictures / f"{number:04d}.png"
            write_picture(path, image, objects[number], detections, pasted, names)
    rows = as_rows(found)
    with whole_file(folder.path / DETECTIONS) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **rows._asdict(), names=np.array(names))
    if recipe.score == "coco":
        metrics, values = _by_coco(objects, sizes, rows, masks, names)
    else:
        metrics, values = _by_voc(objects, rows, names, area=recipe.score == "voc2012")
    if all(np.isnan(one).all() for one in values.values()):
        raise UserError(f"data set {index.record.name}: split {recipe.split} has no object to find")
    tables = {kind: _by_name(names, column) for kind, column in values.items()}
    per_class = tables.pop("per_class")
    scored = {name: value for name, value in metrics.items() if not np.isnan(value)}
    without = {UNSCORED: sorted(metrics.keys() - scored)} if len(scored) < len(metrics) else {}
    return Scored(scored, len(images), per_class, {"score": recipe.score, **without, **tables})


def _detections(
    model: Detector, images: TestImages, execution: Execution, device: torch.device
) -> Iterator[tuple[Tensor, Detections]]:
    """Each image as stored, and what is found in it, in its pixels."""
    pin = device.type == "cuda"
    loaded: Batches[TestImage] = Batches(images, execution.workers, pin, batch_size=None)
    for one in tqdm(loaded, total=len(images), desc="evaluate", unit="image", disable=None):
        pixels = normalize(one.resized.to(device)[None].float().div_(255))[0]
        (seen,) = model.detect([pixels])
        before, after = ((part.shape[1], part.shape[2]) for part in (pixels, one.image))
        yield one.image, rescaled(seen, before, after)


def _by_name(names: tuple[str, ...], values: npt.NDArray[np.float64]) -> dict[str, float | None]:
    """None where a class cannot be scored."""
    return {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(names, values, strict=True)
    }


def _by_voc(
    objects: list[list[ImageObject]], rows: Found, names: tuple[str, ...], area: bool
) -> Judged:
    table = voc_average_precision(as_truth(objects, names), rows, len(names), area)
    if np.isnan(table).all():
        return {}, {"per_class": table[:, 0]}
    means = np.nanmean(table, 0)
    metrics = {"ap": float(means.mean()), "ap50": float(means[0]), "ap75": float(means[5])}
    return metrics, {"per_class": table.mean(1)}


def _by_coco(
    objects: list[list[ImageObject]],
    sizes: list[Size],
    rows: Found,
    masks: list[Any] | None,
    names: tuple[str, ...],
) -> Judged:
    truth, results = as_coco_truth(objects, sizes, names), as_coco_results(rows, masks or ())
    boxes = coco_scores(truth, results, "bbox")
    metrics, tables = boxes.values, {"per_class": np.array(boxes.per_category)}
    if masks is not None:
        of_masks = coco_scores(truth, results, "segm")
        metrics |= {f"mask_{name}": value for name, value in of_masks.values.items()}
        tables["mask_per_class"] = np.array(of_masks.per_category)
    return metrics, tables


def rescaled(found: Detections, before: Size, after: Size) -> Detections:
    """Detections in an image of another size; boxes without area are left out."""
    scale = found.boxes.new_tensor([after[1] / before[1], after[0] / before[0]]).repeat(2)
    boxes = clip_boxes_to_image(found.boxes * scale, after)
    kept = has_area(boxes)
    masks = found.masks if found.masks is None else found.masks[kept]
    return Detections(boxes[kept], found.scores[kept], found.classes[kept], masks)


def as_rows(found: list[Detections]) -> Found:
    """Detections of all images, one after the other."""
    counts = [len(one.boxes) for one in found]
    boxes = torch.cat([one.boxes for one in found]).cpu().double().numpy()
    return Found(
        np.repeat(np.arange(len(found)), counts),
        torch.cat([one.classes for one in found]).cpu().numpy(),
        torch.cat([one.scores for one in found]).cpu().double().numpy(),
        boxes.reshape(-1, 4),
    )


def as_truth(objects: list[list[ImageObject]], names: tuple[str, ...]) -> Truth:
    """Objects of all images as the evaluator reads them: whole pixels from 1, both ends inside."""
    flat = [(image, one) for image, these in enumerate(objects) for one in these]
    boxes = np.array([one.box for _, one in flat], np.float64).reshape(-1, 4)
    return Truth(
        np.array([image for image, _ in flat], np.int64),
        np.array([names.index(one.name) for _, one in flat], np.int64),
        (boxes + np.array([1.0, 1.0, 0.0, 0.0])).astype(int).astype(float),
        np.array([one.difficult for _, one in flat], bool),
    )

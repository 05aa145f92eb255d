"""Scores of a detector: average precision on the test split, per class, and pictures."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from cp2.augment.distortion import normalize
from cp2.augment.pipeline import Batches
from cp2.data.annotations import VocObject, read_objects
from cp2.data.images import decode_rgb
from cp2.data.index import read_index
from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.plan.protocols.detection import DetectionEvaluateRecipe
from cp2.protocols.detection.boxes import clip, has_area
from cp2.protocols.detection.files import load_detector
from cp2.protocols.detection.roi_heads import Detections
from cp2.protocols.detection.rpn import Size
from cp2.protocols.detection.samples import fitted, resize
from cp2.protocols.detection.voc_scores import Found, Truth, voc_average_precision
from cp2.protocols.registry import Scored, picture_indices
from cp2.record.files import whole_file
from cp2.settings.campaign import Execution

DETECTIONS = "detections.npz"
SHOWN_SCORE = 0.5  # of detections in pictures
GAP = 4  # white pixels between two pictures


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
        return TestImage(
            image, resize(image, fitted((image.shape[1], image.shape[2]), *self._sides))
        )


def evaluate(run: Run, results: Path, execution: Execution, device: torch.device) -> Scored:
    """Score one detector; writes detections.npz and pictures/.

    Raises:
        UserError: the model or the data set is missing or damaged, or they do not fit together.
    """
    recipe, folder = run.recipe, run.folder(results)
    assert isinstance(recipe, DetectionEvaluateRecipe)
    index = read_index(run.needed_folder("dataset", results).path)
    path = run.needed_folder("finetune", results).model
    model = load_detector(path).to(device).eval()
    names = index.classes or ()
    if len(names) != model.predictor.classes:
        raise UserError(
            f"{path} knows {model.predictor.classes} classes, data set {index.record.name} has "
            f"{len(names)}; finetune on this data set first"
        )
    objects = [read_objects(one, names) for one in index.labels(recipe.split)]
    images = TestImages(index.paths(recipe.split), recipe.short_side, recipe.long_side)
    loader: DataLoader[TestImage] = DataLoader(
        images, batch_size=None, num_workers=execution.workers
    )
    shown = set(picture_indices(len(images), recipe.pictures))
    found = []
    bar = tqdm(Batches(loader), total=len(images), desc="evaluate", unit="image", disable=None)
    for number, one in enumerate(bar):
        pixels = normalize(one.resized.to(device)[None].float().div_(255))[0]
        size: Size = (one.image.shape[1], one.image.shape[2])
        detections = rescaled(model.detect([pixels])[0], (pixels.shape[1], pixels.shape[2]), size)
        found.append(detections)
        if number in shown:
            write_picture(
                folder.pictures / f"{number:04d}.png", one.image, objects[number], detections, names
            )
    rows = as_rows(found)
    with whole_file(folder.path / DETECTIONS) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **rows._asdict(), names=np.array(names))
    area = recipe.score == "voc2012"
    table = voc_average_precision(as_truth(objects, names), rows, len(names), area)
    if np.isnan(table).all():
        raise UserError(f"data set {index.record.name}: split {recipe.split} has no object to find")
    means = np.nanmean(table, 0)
    per_class = {
        name: None if np.isnan(row).any() else float(row.mean())
        for name, row in zip(names, table, strict=True)
    }
    metrics = {"ap": float(means.mean()), "ap50": float(means[0]), "ap75": float(means[5])}
    return Scored(metrics, len(images), per_class, {"score": recipe.score})


def rescaled(found: Detections, before: Size, after: Size) -> Detections:
    """Detections in an image of another size; boxes without area are left out."""
    scale = found.boxes.new_tensor([after[1] / before[1], after[0] / before[0]]).repeat(2)
    boxes = clip(found.boxes * scale, after)
    kept = has_area(boxes)
    return Detections(boxes[kept], found.scores[kept], found.classes[kept])


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


def as_truth(objects: list[list[VocObject]], names: tuple[str, ...]) -> Truth:
    """Objects of all images, boxes cut to whole pixels as the evaluator reads them."""
    flat = [(image, one) for image, these in enumerate(objects) for one in these]
    return Truth(
        np.array([image for image, _ in flat], np.int64),
        np.array([names.index(one.name) for _, one in flat], np.int64),
        np.array([one.box for _, one in flat], np.float64).reshape(-1, 4).astype(int).astype(float),
        np.array([one.difficult for _, one in flat], bool),
    )


def write_picture(
    path: Path,
    image: Tensor,
    objects: list[VocObject],
    found: Detections,
    names: tuple[str, ...],
) -> None:
    """A PNG: the image with its objects, and beside it with what was found, best on top.

    Raises:
        UserError: the disk is full.
    """
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    sheet = Image.new("RGB", (2 * picture.width + GAP, picture.height), "white")
    truth = [(one.box, one.name) for one in objects]
    kept = (found.scores > SHOWN_SCORE).nonzero()[:, 0].flip(0).tolist()
    guesses = [
        (found.boxes[row].tolist(), f"{names[found.classes[row]]} {found.scores[row]:.2f}")
        for row in kept
    ]
    for left, boxes, colour in ((0, truth, "lime"), (picture.width + GAP, guesses, "red")):
        panel = picture.copy()
        draw = ImageDraw.Draw(panel)
        for box, text in boxes:
            draw.rectangle(tuple(box), outline=colour, width=2)
            place = (box[0] + 3, max(box[1] - 11, 0))
            draw.rectangle(draw.textbbox(place, text), fill="black")
            draw.text(place, text, fill=colour)
        sheet.paste(panel, (left, 0))
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG")

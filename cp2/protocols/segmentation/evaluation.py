"""Scores and pictures of a finetuned model on a labelled split."""

import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from cp2.augment.distortion import normalize
from cp2.augment.geometry import fitted_size, resize_image
from cp2.augment.prefetch import prefetch
from cp2.data.index import DatasetIndex, read_index
from cp2.data.loading import Batches
from cp2.models.encoders import Segmentor
from cp2.models.segmentor_files import load_segmentor
from cp2.plan.graph import Run
from cp2.plan.protocols.segmentation import (
    SegmentationEvaluateRecipe,
    SegmentationFinetuneRecipe,
)
from cp2.protocols.registry import Scored, checked_classes, picture_indices
from cp2.protocols.segmentation.inference import infer
from cp2.protocols.segmentation.pictures import write_picture
from cp2.protocols.segmentation.samples import LabelledPair, decode_pair
from cp2.protocols.segmentation.scores import ConfusionMatrix, score
from cp2.record.files import whole_file
from cp2.record.folder import RunFolder
from cp2.settings.campaign import Execution
from cp2.settings.protocols.segmentation import InferenceSettings, Normalization

CONFUSION = "confusion.npz"  # matrix (K, K) of pixels, rows are labels; names of the classes
Item = TypeVar("Item")


class Waited(Generic[Item]):
    """Hands on what an iterable gives.

    Attributes:
        seconds: spent waiting for it, so far.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        begin = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.seconds += time.perf_counter() - begin


class ValImage(NamedTuple):
    """One image of a split, undistorted."""

    image: Tensor  # uint8 (3, H, W), original size
    resized: Tensor  # uint8 (3, h, w), as the model sees it
    label: Tensor  # uint8 (H, W)


class ValImages(Dataset[ValImage]):
    """A split in its own order; `resize` is the short and long side that images are fitted into."""

    def __init__(self, index: DatasetIndex, split: str, resize: tuple[int, int]) -> None:
        files = zip(index.paths(split), index.labels(split), strict=True)
        self._pairs = [LabelledPair(*pair) for pair in files]
        self._resize = resize

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> ValImage:
        image, label = decode_pair(self._pairs[index])
        size = fitted_size(image.shape[1], image.shape[2], self._resize)
        return ValImage(image, resize_image(image, size), label)


def evaluate(run: Run, results: Path, execution: Execution, device: torch.device) -> Scored:
    """See `cp2.protocols.registry.evaluate`; writes confusion.npz and pictures/."""
    recipe, folder = run.recipe, run.folder(results)
    assert isinstance(recipe, SegmentationEvaluateRecipe)
    index = read_index(run.needed_folder("dataset", results).path)
    path = run.needed_folder("finetune", results).model
    model = load_segmentor(path).to(device).eval()
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)
    names = checked_classes(index, model.conv_seg.out_channels, path)
    images = ValImages(index, recipe.split, recipe.resize)
    matrix, waited = _predict_all(model, images, recipe, execution.workers, folder, index)
    metrics, iou = score(matrix)
    with whole_file(folder.path / CONFUSION) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, matrix=matrix, classes=np.array(names))
    per_class = dict(zip(names, iou, strict=True))
    return Scored(metrics, len(images), per_class, {"mode": recipe.inference.mode}, waited)


def validation(
    model: Segmentor, index: DatasetIndex, recipe: SegmentationFinetuneRecipe
) -> dict[str, float]:
    """Scores of a model in training on the validation split, for the log: no table shows them.

    Whole images, whatever the protocol's inference; the model is in eval mode afterwards.
    """
    augmentation = recipe.augmentation
    asked = SegmentationEvaluateRecipe(
        dataset=recipe.dataset,
        split="val",
        resize=augmentation.resize,
        inference=InferenceSettings(),
        align_corners=recipe.align_corners,
        normalization=augmentation.normalization,
        pictures=0,
    )
    images = ValImages(index, asked.split, asked.resize)
    matrix, _ = _predict_all(model.eval(), images, asked, 0, RunFolder(index.folder), index)
    return {f"val/{name}": value for name, value in score(matrix)[0].items()}


@torch.inference_mode()
def _predict_all(
    model: Segmentor,
    images: ValImages,
    recipe: SegmentationEvaluateRecipe,
    workers: int,
    folder: RunFolder,
    index: DatasetIndex,
) -> tuple[np.ndarray, float]:
    """Confusion matrix of the split, and seconds of waiting for data; writes the pictures.

    On a GPU only pictures wait for it: the next images are decoded by the workers and copied on a
    stream of their own, counts stay on the device.
    """
    device = next(model.parameters()).device
    confusion = ConfusionMatrix(model.conv_seg.out_channels, device)
    loaded: Batches[ValImage] = Batches(images, workers, device.type == "cuda", batch_size=None)
    shown = set(picture_indices(len(images), recipe.pictures))
    bar = tqdm(loaded, total=len(images), desc="evaluate", unit="image", disable=None)
    ready = partial(prepare_image, device=device, normalization=recipe.normalization)
    ahead = Waited(prefetch(bar, ready, device))
    for i, (one, content) in enumerate(ahead):
        pixels, label = content()
        original = (label.shape[0], label.shape[1])
        logits = infer(model, pixels, original, recipe.inference, recipe.align_corners)
        prediction = logits.argmax(1)[0]
        confusion.add(prediction, label)
        if i in shown:
            path, palette = folder.pictures / f"{i:04d}.png", index.palette or ()
            write_picture(path, one.image, one.label, prediction, palette)
    return confusion.matrix(), ahead.seconds


def prepare_image(
    one: ValImage, device: torch.device, normalization: Normalization = "imagenet"
) -> tuple[Tensor, Tensor]:
    """On the device: the image as the model sees it, normalised (1, 3, h, w), and the label."""
    pixels = one.resized.to(device, non_blocking=True)[None].float().div_(255)
    pixels = normalize(pixels, normalization)
    if device.type == "cuda":  # as the model's weights
        pixels = pixels.contiguous(memory_format=torch.channels_last)
    return pixels, one.label.to(device, non_blocking=True)

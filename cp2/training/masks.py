"""The stage `masks`: where a vision transformer looks in every image of a data set."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from cp2.data.attention_maps import MAPS, RECORD, AttentionMaps, MapsRecord
from cp2.data.derived import AppendedFiles, write_record
from cp2.data.images import decode_rgb
from cp2.data.index import DatasetIndex, read_index
from cp2.data.loading import Batches
from cp2.data.sources import ImageFiles
from cp2.errors import WrongFile
from cp2.models.attention import class_attention, mass_ranks, smooth
from cp2.models.backbones import ViTBackbone, build_backbone
from cp2.models.devices import choose_device, device_name
from cp2.plan.graph import Run
from cp2.plan.recipes import MasksRecipe
from cp2.settings.base import hashed_fields
from cp2.settings.campaign import Execution
from cp2.settings.models import IMAGENET_MEAN, IMAGENET_STD
from cp2.training.clock import Deadline
from cp2.training.filling import fill
from cp2.training.pretrained import PretrainedWeights
from cp2.training.progress import Progress

BATCH = 64
EVEN = 255  # the map of an image that cannot be read: all of it is looked at
POINTS = 2  # stored points a patch and direction; the blur leaves nothing finer

Square = tuple[Tensor, str | None]  # an image, and why it cannot be read if so


def compute_masks(run: Run, results: Path, execution: Execution, deadline: Deadline) -> None:
    """Compute or go on computing the attention maps; writes maps.u8, maps.json, then done.json.

    The images, squeezed to a square, go through the vision transformer; the last block's attention
    of the class token, averaged over heads, is enlarged, blurred and stored by rank
    (`MapsRecord`). Pretraining cuts its masks out of that. An unreadable image is named, counted
    and gets an even map; whether pretraining puts up with it is the method's `reading.unreadable`.

    Raises:
        UserError: bad input, a full disk, or a batch of which no image can be read.
        StoppedForResumeError: stopped by clock or signal after saving.
    """
    recipe = run.recipe
    assert isinstance(recipe, MasksRecipe)
    device = choose_device()
    folder = run.folder(results)
    tags = {**run.tags, "stage": run.stage, "run_id": run.id}
    folder.start(hashed_fields(recipe), tags, device_name(device))
    index = read_index(run.needed_folder("dataset", results).path)
    split = index.pretraining_split
    paths = index.paths(split)
    backbone, notes = load_attending(recipe, results)
    backbone.to(device).eval()
    cells = recipe.magnification * backbone.grid[0]
    side = POINTS * cells
    files = AppendedFiles(folder.state, (MAPS,), {"side": side})
    progress = Progress(run.id, -(-len(paths) // BATCH), files.images // BATCH, folder.log)
    for line in [*notes, f"{len(paths) - files.images} images to do, on {device_name(device)}"]:
        progress.say(line)

    def append(batch: tuple[Tensor, list[str | None]]) -> None:
        images, errors = batch
        ranks = attention_ranks(backbone, images.to(device), recipe.blur)
        ranks[[error is not None for error in errors]] = EVEN
        for error in filter(None, errors):
            progress.say(f"{error}; it gets an even map")
        unreadable = len(errors) - errors.count(None)
        files.append({MAPS: ranks.tobytes()}, len(images), unreadable)

    batches = squares(paths[files.images :], cells * backbone.stride, execution.workers)
    fill(run, files, len(paths), batches, append, progress, deadline, execution.save_minutes)
    files.move(folder.path)
    record = MapsRecord(
        dataset=index.record.name,
        digest=index.record.digest,
        split=split,
        images=len(paths),
        side=side,
    )
    write_record(folder.path / RECORD, record)
    counts = {"images": len(paths), "unreadable": files.unreadable}
    run.finish(results, {**progress.finish(), **counts, "notes": notes})


def stored_maps(run: Run, results: Path, index: DatasetIndex) -> AttentionMaps | None:
    """The maps that a pretraining cuts its masks from, if it needs any.

    Raises:
        WrongFile: they are missing or damaged, or were made from another data set.
    """
    if run.need("masks") is None:
        return None
    maps = AttentionMaps(run.needed_folder("masks", results).path)
    maps.check(index)
    return maps


def load_attending(recipe: MasksRecipe, results: Path) -> tuple[ViTBackbone, list[str]]:
    """The vision transformer with its published weights, and notes on what was adapted."""
    backbone = build_backbone(recipe.backbone)
    assert isinstance(backbone, ViTBackbone)
    return backbone, PretrainedWeights(recipe.checkpoint, results).load_into(backbone)


class Squares(Dataset[Square]):
    """Whole images, squeezed to uint8 (3, size, size); black, with the error, where unreadable."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self._files = ImageFiles(paths)
        self._size = size

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Square:
        try:
            image = decode_rgb(self._files.name(index))
        except WrongFile as error:
            return torch.zeros(3, self._size, self._size, dtype=torch.uint8), str(error)
        return functional.resize(image, [self._size, self._size], antialias=True), None


def squares(
    paths: Sequence[Path], size: int, workers: int
) -> Iterator[tuple[Tensor, list[str | None]]]:
    """The images in order, in batches of uint8 (N, 3, size, size), and what is wrong with each.

    Raises:
        WrongFile: no image of a batch can be read.
    """
    pin = choose_device().type == "cuda"
    data = Squares(paths, size)
    loaded: Batches[Any] = Batches(data, workers, pin, batch_size=BATCH, collate_fn=_collate)
    for images, errors in loaded:
        if None not in errors:
            raise WrongFile(
                f"{errors[0]}\nSo were all {len(errors)} images of the batch: is the data set's "
                "folder still there?"
            )
        yield images, errors


def _collate(items: list[Square]) -> tuple[Tensor, list[str | None]]:
    images, errors = zip(*items, strict=True)
    return torch.stack(images), list(errors)


@torch.inference_mode()
def attention_ranks(backbone: ViTBackbone, images: Tensor, blur: float) -> np.ndarray:
    """What is stored of a batch of square uint8 images (N, 3, S, S): uint8 (N, side, side)."""
    mean, std = (
        torch.tensor(values, device=images.device).view(3, 1, 1)
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    maps = class_attention(backbone, (images.float() / 255 - mean) / std)
    return mass_ranks(smooth(maps, POINTS, blur)).cpu().numpy()

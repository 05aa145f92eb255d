"""The stage `cache`: every image of a data set decoded once, at a fixed short side."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from cp2.data.derived import AppendedFiles, write_record
from cp2.data.image_cache import (
    COLUMNS,
    PIXELS,
    RECORD,
    ROWS,
    VERSION,
    CachedImages,
    CacheRecord,
    check_pixels,
)
from cp2.data.images import decode_rgb
from cp2.data.index import DatasetIndex, read_index
from cp2.data.loading import Batches
from cp2.data.sources import ImageFiles
from cp2.errors import WrongFile
from cp2.plan.graph import Run
from cp2.plan.recipes import CacheRecipe
from cp2.settings.base import hashed_fields
from cp2.settings.campaign import Execution
from cp2.training.clock import Deadline
from cp2.training.filling import fill
from cp2.training.progress import Progress

REPORTED = 1000  # images between two lines of the log


def make_cache(run: Run, results: Path, execution: Execution, deadline: Deadline) -> None:
    """Make or go on making a cache; writes pixels.u8, rows.i64, cache.json, then done.json.

    Unreadable images are named and take no place; pretraining replaces them.

    Raises:
        UserError: bad input, a full disk.
        StoppedForResumeError: stopped by clock or signal after saving.
    """
    recipe = run.recipe
    assert isinstance(recipe, CacheRecipe)
    folder = run.folder(results)
    folder.start(hashed_fields(recipe), {**run.tags, "stage": run.stage, "run_id": run.id}, "cpu")
    index = read_index(run.needed_folder("dataset", results).path)
    split = index.pretraining_split
    paths = index.paths(split)
    files = AppendedFiles(folder.state, (PIXELS, ROWS), {"version": VERSION})
    progress = Progress(run.id, len(paths), files.images, folder.log)
    progress.say(f"{len(paths) - files.images} of {len(paths)} images to do")

    def append(image: Tensor) -> None:
        if not len(image):
            progress.say(f"left out: {_reason(paths[files.images])}")
        data = image.numpy().tobytes()
        row = np.array([files.sizes[PIXELS], *image.shape[:2], crc32(data)], np.int64)
        files.append({PIXELS: data, ROWS: row.tobytes()}, unreadable=not len(image))
        if files.images % REPORTED == 0:
            progress.report(files.images, {})

    images = shrunk_images(paths[files.images :], recipe.short_side, execution.workers)
    fill(run, files, len(paths), images, append, progress, deadline, execution.save_minutes)
    rows = (folder.state / ROWS).read_bytes()
    check_pixels(folder.state / PIXELS, np.frombuffer(rows, np.int64).reshape(-1, COLUMNS))
    files.move(folder.path)
    record = CacheRecord(
        version=VERSION,
        dataset=index.record.name,
        digest=index.record.digest,
        split=split,
        images=len(paths),
        unreadable=files.unreadable,
        short_side=recipe.short_side,
        size=files.sizes[PIXELS],
        rows_crc=crc32(rows),
    )
    write_record(folder.path / RECORD, record)
    notes = [f"{files.unreadable} unreadable images left out"] if files.unreadable else []
    summary = {"images": len(paths), "bytes": record.size, "notes": notes}
    run.finish(results, {**progress.finish(), **summary})


def image_source(run: Run, results: Path, index: DatasetIndex) -> CachedImages | list[Path]:
    """Where a pretraining reads its images: its cache if it has one, else the files.

    Raises:
        WrongFile: the cache is missing, damaged, of another version or of another data set.
    """
    if run.need("cache") is None:
        return index.paths(index.pretraining_split)
    return CachedImages(run.needed_folder("cache", results).path, index)


class Shrunk(Dataset[Tensor]):
    """Images as the cache stores them: uint8 (height, width, 3), height 0 if unreadable."""

    def __init__(self, paths: Sequence[Path], short_side: int) -> None:
        self._files = ImageFiles(paths)
        self._short_side = short_side

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:
        try:
            image = decode_rgb(self._files.name(index))
        except WrongFile:
            return torch.empty(0, 0, 3, dtype=torch.uint8)
        return shrink(image, self._short_side).permute(1, 2, 0).contiguous()


def shrink(image: Tensor, short_side: int) -> Tensor:
    """uint8 (3, H, W) with its short side at most so long: bilinear with antialiasing.

    The aspect is kept to a pixel; smaller images are left as they are.
    """
    height, width = image.shape[1:]
    if min(height, width) <= short_side:
        return image
    factor = short_side / min(height, width)
    size = (max(short_side, round(height * factor)), max(short_side, round(width * factor)))
    pixels = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(pixels, size=size, mode="bilinear", antialias=True)[0]


def shrunk_images(paths: Sequence[Path], short_side: int, workers: int) -> Iterator[Tensor]:
    """The images in order, as `Shrunk` gives them."""
    if not paths:
        return iter(())
    data = Shrunk(paths, short_side)
    return iter(Batches(data, workers, batch_size=None))


def _reason(path: Path) -> str:
    try:
        decode_rgb(path)
    except WrongFile as error:
        return str(error)
    return f"{path}: it could not be read a moment ago, but can now"

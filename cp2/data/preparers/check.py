"""The last step of every preparation: labels become train ids, and every pair is checked."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from PIL import Image
from tqdm import tqdm

from cp2.data.index import Item
from cp2.data.labels import LabelTable, read_label, to_train_ids
from cp2.data.preparers.common import Layout, Source
from cp2.errors import WrongFile

POOL_FROM = 5000  # images; below, starting processes takes longer than the work
_MOST_PROCESSES = 32
S = TypeVar("S")
T = TypeVar("T")


def finish(layout: Layout, folder: Path, name: str) -> list[Item]:
    """Check all images; write train-id labels to folder/labels/<split>/<name>.png.

    Item paths are relative to the parent of `folder`, or absolute for in-place sets.

    Raises:
        WrongFile: an image's header or a label cannot be read, a label is missing, of another size
            than its image, or holds a value that the data set does not have.
    """
    work = partial(_finish_one, folder=folder, table=layout.table, in_place=layout.in_place)
    return _map(work, layout.sources, name)


def _finish_one(source: Source, *, folder: Path, table: LabelTable | None, in_place: bool) -> Item:
    size = _image_size(source.image)
    label = source.label
    if label is not None and table is not None:
        label = _finish_label(source, label, size, None if in_place else folder, table)
    base = None if in_place else folder.parent
    return Item(source.split, _posix(source.image, base), _posix(label, base) if label else "")


def _finish_label(
    source: Source, raw_path: Path, size: tuple[int, int], folder: Path | None, table: LabelTable
) -> Path:
    if not raw_path.is_file():
        raise WrongFile(f"image {source.image} has no label: {raw_path} is missing")
    raw = read_label(raw_path)
    height, width = raw.shape
    if (width, height) != size:
        raise WrongFile(
            f"label {raw_path} is {width}x{height}, its image {source.image} is "
            f"{size[0]}x{size[1]} (width x height)"
        )
    train_ids = to_train_ids(raw, table, raw_path)
    if folder is None:
        return raw_path
    target = folder / "labels" / source.split / f"{source.name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(train_ids).save(target)
    return target


def _image_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError as error:
        raise WrongFile(f"image {path} is listed but is not there") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise WrongFile(f"image {path} cannot be read ({error})") from error


def _posix(path: Path, base: Path | None) -> str:
    return (path if base is None else path.relative_to(base)).as_posix()


def _map(work: Callable[[S], T], sources: Sequence[S], name: str) -> list[T]:
    bar = partial(tqdm, total=len(sources), desc=f"checking {name}", unit="image", disable=None)
    processes = min(_cpus(), _MOST_PROCESSES)
    if len(sources) < POOL_FROM or processes == 1:
        return list(bar(map(work, sources)))
    # spawn: forking a process that has threads (tqdm's, torch's) can hang
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(bar(pool.map(work, sources, chunksize=64)))


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # what Slurm or taskset gave, not what the node has
    return os.cpu_count() or 1

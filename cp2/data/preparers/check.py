"""The last step of every preparation: labels become train ids, and every pair is checked."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from glob import escape
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from cp2.data.annotations import read_objects, states_size
from cp2.data.index import Item
from cp2.data.labels import IGNORE, LabelMap, read_label, to_train_ids
from cp2.data.members import is_member, read_bytes
from cp2.data.pillow import decode_array, open_image, orientation, reading, tolerated
from cp2.data.preparers.census import AS_STORED, UNLABELLED, UNSAID, UPRIGHT, Census, Checked
from cp2.data.preparers.common import Layout, Source
from cp2.data.walk import SHOWN, LeftOut
from cp2.errors import UserError, WrongFile
from cp2.settings.datasets import DatasetSettings

POOL_FROM = 5000  # images; below, starting processes takes longer than they save over threads
_MOST_PROCESSES = 32
S = TypeVar("S")
T = TypeVar("T")


def finish(
    layout: Layout, folder: Path, settings: DatasetSettings, census: Census, left_out: LeftOut
) -> list[Item]:
    """Check all images; write train-id labels to folder/labels/<split>/<name>.png.

    The pixels of `settings.decoded` images, spread evenly, are decoded; of all others the header is
    read. In a folder of the user's own without labels, a few unreadable images are left out.

    Item paths are relative to the parent of `folder`, or absolute outside of it.

    Raises:
        WrongFile: an image or a label cannot be read, a label is missing, of another size than its
            image, or holds a value or an object that the data set does not have; the labels teach
            nothing.
    """
    work = partial(_finish_one, folder=folder, layout=replace(layout, sources=[]))
    total = len(layout.sources)
    whole = np.zeros(total, bool)
    whole[np.linspace(0, total - 1, min(settings.decoded, total)).astype(int)] = True
    tasks = list(zip(layout.sources, whole.tolist(), strict=True))
    items, errors = [], []
    for source, found in zip(layout.sources, _map(work, tasks, settings.name), strict=True):
        if isinstance(found, Checked):
            census.add(source, found)
            items.append(found.item)
        else:
            errors.append(found)
            left_out.add("unreadable", found)
    most = tolerated(int(whole.sum())) if settings.kind == "images" else 0
    if len(errors) > most:
        more = [f"... and {len(errors) - SHOWN} more files"] if len(errors) > SHOWN else []
        raise WrongFile("\n".join([*errors[:SHOWN], *more]))
    census.check()
    return items


def _finish_one(task: tuple[Source, bool], *, folder: Path, layout: Layout) -> Checked | str:
    """What was found, or what is wrong."""
    source, whole = task
    try:
        return _checked(source, whole, folder, layout)
    except WrongFile as error:
        return str(error)


def _checked(source: Source, whole: bool, folder: Path, layout: Layout) -> Checked:
    with reading(source.image):
        data = read_bytes(source.image) if whole or is_member(source.image) else None
        with open_image(source.image if data is None else io.BytesIO(data)) as image:
            (width, height), exif = image.size, orientation(image)
        if data is not None and whole:
            decode_array(data)
    content = hashlib.blake2b(data, digest_size=16).digest() if data is not None else None
    ids: npt.NDArray[np.int64] | None = None
    if source.label is not None and layout.objects is not None:
        try:
            found = read_objects(source.label, layout.objects, (width, height), layout.strict)
        except WrongFile as error:
            if source.described is None:
                raise
            raise WrongFile(f"{source.image}, described in {source.described}: {error}") from error
        columns = [IGNORE if one.difficult else layout.objects.index(one.name) for one in found]
        ids = np.bincount(np.array(columns, np.int64), minlength=256)
    if source.label is None or layout.table is None:
        paths = (source.image, *([source.label] if source.label else []))
        item = Item(source.split, *(_posix(path, folder.parent) for path in paths))
        stored = UNLABELLED if source.label is None else UNSAID
        checked = layout.strict or source.described is not None  # its size is the label's, if said
        if exif >= 5 and width != height and source.label and checked and states_size(source.label):
            stored = AS_STORED
        return Checked(item, stored if exif > 1 else None, ids, content)
    if not source.label.is_file():
        stem = source.label.stem
        near = sorted(source.label.parent.glob(f"{escape(stem)}*"))
        near = [path for path in near if not path.name[len(stem) :][:1].isalnum()]
        hint = "; {} is none: a label has its image's stem, and is a PNG, TIFF, BMP or GIF"
        raise WrongFile(
            f"image {source.image} has no label: {source.label} is missing"
            + (hint.format(near[0]) if near else "")
        )
    raw = read_label(source.label)
    turned = _turned(source, raw, (height, width), exif)
    train_ids = to_train_ids(raw, layout.table, source.label)
    label = source.label
    if not layout.in_place:
        label = folder / "labels" / source.split / f"{source.name}.png"
        label.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(train_ids).save(label)
    item = Item(source.split, *(_posix(path, folder.parent) for path in (source.image, label)))
    return Checked(item, turned, np.bincount(train_ids.ravel(), minlength=256), content)


def _turned(source: Source, raw: LabelMap, size: tuple[int, int], exif: int) -> str | None:
    """What the label's size says of the image's EXIF orientation; None where it has none.

    Raises:
        WrongFile: the label is of another size, whichever way the image is turned.
    """
    lying = exif >= 5  # height and width change places
    if raw.shape == size:
        return None if exif == 1 else AS_STORED if lying and size[0] != size[1] else UNSAID
    if lying and raw.shape == size[::-1]:
        return UPRIGHT
    raise WrongFile(
        f"label {source.label} is {raw.shape[1]}x{raw.shape[0]}, its image {source.image} is "
        f"{size[1]}x{size[0]} (width x height)"
    )


def _posix(path: Path, base: Path) -> str:
    return (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()


def _map(work: Callable[[S], T], tasks: Sequence[S], name: str) -> Iterator[T]:
    """The results in order, by as many threads or processes as this job has cores."""
    bar = partial(tqdm, total=len(tasks), desc=f"checking {name}", unit="image", disable=None)
    processes = min(_cpus(), _MOST_PROCESSES)
    if processes == 1:
        yield from bar(map(work, tasks))
        return
    with _pool(len(tasks), processes) as pool:
        try:
            yield from bar(pool.map(work, tasks, chunksize=64))
        except BrokenExecutor:
            raise UserError(
                f"data set {name}: a process that checks images was killed, probably because "
                "memory ran out; give the job more memory, or fewer cores"
            ) from None


def _pool(tasks: int, processes: int) -> Executor:
    if tasks < POOL_FROM:
        return ThreadPoolExecutor(processes)  # decoders let other threads run
    # spawn: forking a process that has threads (tqdm's, torch's) can hang
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # what Slurm or taskset gave, not what the node has
    return os.cpu_count() or 1

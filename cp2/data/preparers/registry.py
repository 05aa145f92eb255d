"""One call that makes any data set."""

import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cp2.data.download import fetch, used_hash
from cp2.data.index import (
    RECORD,
    DatasetRecord,
    UsedArchive,
    read_record,
    write_index,
    write_record,
)
from cp2.data.labels import num_train_ids
from cp2.data.preparers.ade20k import prepare_ade20k
from cp2.data.preparers.camvid import prepare_camvid
from cp2.data.preparers.census import Census
from cp2.data.preparers.check import finish
from cp2.data.preparers.cityscapes import prepare_cityscapes
from cp2.data.preparers.coco import prepare_coco_instances, prepare_coco_json
from cp2.data.preparers.common import Job, Layout, Preparer
from cp2.data.preparers.folders import prepare_folders
from cp2.data.preparers.labelled import prepare_labelled
from cp2.data.preparers.unlabelled import own_root, prepare_coco, prepare_imagenet, prepare_images
from cp2.data.preparers.voc import prepare_voc, prepare_voc2007
from cp2.data.preparers.voc2012 import prepare_voc2012
from cp2.errors import UserError, WrongFile
from cp2.record.digest import digest
from cp2.record.files import disk_is_full
from cp2.settings.base import hashed_fields
from cp2.settings.datasets import ClassList, DatasetSettings
from cp2.settings.joined import joined

PREPARERS: dict[str, Preparer] = {
    "voc2007": prepare_voc2007,
    "voc2012": prepare_voc2012,
    "cityscapes": prepare_cityscapes,
    "ade20k": prepare_ade20k,
    "imagenet": prepare_imagenet,
    "coco": prepare_coco,
    "camvid": prepare_camvid,
    "images": prepare_images,
    "labelled": prepare_labelled,
    "folders": prepare_folders,
    "voc": prepare_voc,
    "coco-instances": prepare_coco_instances,
    "coco-json": prepare_coco_json,
}


def prepare(
    settings: DatasetSettings,
    classes: ClassList | None,
    folder: Path,
    mirrors: Sequence[Path] = (),
    downloads: Path | None = None,
) -> DatasetRecord:
    """Make a data set in `folder`, or return at once if that has been done with these settings.

    downloads/            archives (default: folder/archives/); they stay, for another attempt
    folder/files/         images as the archives name them, and labels/<split>/<name>.png
    folder/index.csv      split, image, label
    folder/dataset.json   written last

    A preparation that was killed starts again from the archives.

    Raises:
        UserError: an archive or the user's folder is missing, the disk is full, or the class list
            does not fit.
        WrongFile: an archive, image or label is not what it should be, or counts differ.
    """
    marker = _digest(settings, classes)
    record = read_record(folder)
    if record is not None and record.digest == marker:
        return record
    try:
        return _prepare(
            settings, classes, folder.resolve(), mirrors, downloads or folder / "archives", marker
        )
    except OSError as error:
        if disk_is_full(error):
            raise UserError(
                f"{folder}: no space left on the disk while preparing {settings.name}; free some "
                "and start again (downloads are kept)"
            ) from error
        raise


def _prepare(
    settings: DatasetSettings,
    classes: ClassList | None,
    folder: Path,
    mirrors: Sequence[Path],
    downloads: Path,
    marker: str,
) -> DatasetRecord:
    if settings.classes is not None and classes is None:
        raise UserError(f"data set {settings.name} needs the class list {settings.classes}")
    (folder / RECORD).unlink(missing_ok=True)
    files = folder / "files"
    shutil.rmtree(files, ignore_errors=True)
    archives = tuple(fetch(archive, downloads, mirrors) for archive in settings.archives)
    files.mkdir(parents=True)

    job = Job(settings, classes.classes if classes else (), archives, files)
    preparer = PREPARERS.get(settings.kind) or joined("cp2.datasets", settings.kind)
    layout: Layout = preparer(job)
    _check_classes(layout, job)
    _count(settings, layout, job.left_out.notes())
    own = settings.kind == "labelled"
    objects = layout.objects is not None
    census = Census(settings.name, classes.classes if classes else (), own, objects)
    items = finish(layout, files, settings, census, job.left_out)
    for path in layout.discard:
        shutil.rmtree(path)
    index_sha256 = write_index(folder, items)
    record = DatasetRecord(
        name=settings.name,
        kind=settings.kind,
        title=settings.title,
        digest=marker,
        splits=census.splits(),
        classes=classes.classes if classes else layout.classes,
        palette=classes.palette if classes else None,
        archives=tuple(
            UsedArchive(file=archive.file, hash=used_hash(archive, downloads))
            for archive in settings.archives
        ),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        index_sha256=index_sha256,
        root=own_root(job).as_posix() if settings.root else None,
        left_out=dict(job.left_out.counts),
        notes=(*job.left_out.notes(), *census.notes(), *_sampled(settings, len(layout.sources))),
    )
    write_record(folder, record)
    return record


def _digest(settings: DatasetSettings, classes: ClassList | None) -> str:
    """Of all that can change the result: for a user's own data that includes the place."""
    return digest(
        {
            "settings": hashed_fields(settings),
            "root": settings.root,
            **({} if settings.unpack else {"unpack": False}),
            "classes": hashed_fields(classes) if classes else None,
        }
    )


def _check_classes(layout: Layout, job: Job) -> None:
    if layout.table is not None and num_train_ids(layout.table) != job.num_classes:
        raise UserError(
            f"data set {job.settings.name}: kind {job.settings.kind} has "
            f"{num_train_ids(layout.table)} classes, the class list {job.settings.classes} has "
            f"{job.num_classes}"
        )


def _count(settings: DatasetSettings, layout: Layout, notes: list[str]) -> None:
    found = Counter(source.split for source in layout.sources)
    unlabelled = layout.table is None and layout.classes is None
    required = {"train"} if unlabelled else {"train", "val"}
    if layout.objects is not None:
        required = {"train", "test"}
    known = sorted(required | set(found))
    for split in sorted({*known, *settings.counts}):
        if split not in known:
            raise UserError(
                f"data set {settings.name}: counts: no split {split}; splits are {', '.join(known)}"
            )
        wanted = settings.counts.get(split)
        if found[split] == 0:
            raise WrongFile(
                f"data set {settings.name}: split {split} is empty; no image of it was found in "
                + (settings.root or ", ".join(archive.file for archive in settings.archives))
                + "".join(f"\n{note}" for note in notes)
            )
        if wanted is not None and found[split] != wanted:
            raise WrongFile(
                f"data set {settings.name}: split {split} has {found[split]} images, `counts` in "
                f"configs/datasets/{settings.name}.yaml says {wanted}; an archive is incomplete or "
                "of another version"
            )


def _sampled(settings: DatasetSettings, images: int) -> list[str]:
    if settings.decoded >= images:
        return []
    return [
        f"{settings.decoded} of {images} images were decoded, of the others only the header was "
        "read (`decoded` in the data set's settings)"
    ]

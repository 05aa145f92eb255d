"""Images with instances in COCO's layout: the archives of 2017, or a user's own folder.

<folder>/<file_name>                    any image format; folder: train2017, or images
annotations/instances_<folder>.json     images, categories, annotations with boxes and masks

Split `train` is COCO's train2017, and `test`, which is scored, its val2017. An own folder has
instances_train*.json, and instances_test*.json or else instances_val*.json.
"""

import hashlib
import os
from pathlib import Path, PurePosixPath

from cp2.data.annotations import write_objects
from cp2.data.preparers.coco_file import CocoFile
from cp2.data.preparers.common import Job, Layout, Source, containing
from cp2.data.preparers.unlabelled import own_root
from cp2.errors import UserError, WrongFile

_JSON = "annotations/instances_{}.json"
_LONGEST = 255  # bytes of a file's name


def prepare_coco_instances(job: Job) -> Layout:
    """train2017.zip, val2017.zip and annotations_trainval2017.zip."""
    folders = {"train": "train2017", "test": "val2017"}
    files = {split: _JSON.format(name) for split, name in folders.items()}
    job.unpack(containing(*(f"/{name}/" for name in folders.values()), *files.values()))
    job.find(*folders.values(), *files.values())
    sources = [
        source
        for split, name in folders.items()
        for source in _sources(job, split, job.folder / files[split], [job.folder / name])
    ]
    return Layout(sources, objects=job.classes, discard=(job.folder / "annotations",))


def prepare_coco_json(job: Job) -> Layout:
    """The user's folder; images are used in place.

    Raises:
        UserError: a split has no annotations, or several.
        WrongFile: they are damaged, or name what is not there.
    """
    root = own_root(job)
    test = "test" if [*root.glob(_JSON.format("test*"))] else "val"
    sources = []
    for split, name in (("train", "train"), ("test", test)):
        found = sorted(root.glob(_JSON.format(f"{name}*")))
        if len(found) != 1:
            what = f"{len(found)} files are" if found else "no file is"
            raise UserError(
                f"data set {job.settings.name}: {what} {root / _JSON.format(f'{name}*')}; "
                "there must be one for train, and one for test, or else val"
            )
        folder = found[0].stem.removeprefix("instances_")
        places = [root / folder, root / "images" / folder, root / "images", root]
        sources += _sources(job, split, found[0], places, strict=True)
    return Layout(sources, objects=job.classes)


def _sources(
    job: Job, split: str, path: Path, places: list[Path], strict: bool = False
) -> list[Source]:
    """Images of one file, and a file of each one's objects."""
    labels = job.folder / "labels" / split
    sources = []
    for image, objects in CocoFile(path, job.classes, strict).objects():
        name = PurePosixPath(image.file)
        if name.is_absolute() or ".." in name.parts:
            raise WrongFile(f"{path}: image {image.id}: file_name {image.file!r} leaves its folder")
        there = (place / name for place in places)
        file = next((one for one in there if os.path.isfile(one)), None)  # noqa: PTH113 - as Path it raises
        if file is None:
            raise WrongFile(
                f"{path}: image {image.id} ({image.file}) is not in {places[0]}"
                + (" nor in images/" if len(places) > 1 else "")
            )
        label = labels / f"{name}.json"
        if len(encoded := os.fsencode(label.name)) > _LONGEST:
            label = label.with_name(f"{hashlib.sha256(encoded).hexdigest()}.json")
        label.parent.mkdir(parents=True, exist_ok=True)
        write_objects(label, image.size, objects)
        sources.append(Source(split, name.as_posix(), file, label, path))
    return sorted(sources, key=lambda source: source.name)

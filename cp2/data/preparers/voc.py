"""Images with objects in PASCAL VOC's layout: VOC's archives, or a user's own folder.

JPEGImages/<id>.jpg         any image format
Annotations/<id>.xml        its objects; kept as the label of the image
ImageSets/Main/<list>.txt   ids, one a line

Split `train` is VOC's trainval and `test` its test. A folder without test.txt is split by its
train.txt and val.txt instead.
"""

from pathlib import Path

from cp2.data.preparers.common import Job, Layout, Source, containing
from cp2.data.preparers.labelled import Stems
from cp2.data.preparers.unlabelled import own_root
from cp2.data.unpack import unpack
from cp2.data.walk import files_below
from cp2.errors import UserError

# Root, split and list of each archive.
_ARCHIVES = (
    ("VOCdevkit/VOC2007", "train", "trainval"),
    ("VOCdevkit/VOC2007", "test", "test"),
    ("VOCdevkit/VOC2012", "train", "trainval"),
)
_FOLDERS = ("JPEGImages", "Annotations", "ImageSets/Main")


def prepare_voc2007(job: Job) -> Layout:
    """The archives side by side, for each holds a VOCdevkit: VOC 2007's trainval and test, and
    VOC 2012's trainval where there is a third."""
    sources = []
    for number, archive in enumerate(job.archives):
        root, split, ids = _ARCHIVES[number]
        place = split if number < 2 else f"{split}-{number}"
        wanted = containing(*(f"/{root}/{folder}/" for folder in _FOLDERS))
        unpack(archive, job.folder / place, wanted, job.left_out)
        job.find(*(f"{place}/{root}/{folder}" for folder in _FOLDERS))
        sources += _sources(job, job.folder / place / root, {split: ids})
    return Layout(sources, objects=job.classes)


def prepare_voc(job: Job) -> Layout:
    """The user's folder, used in place.

    Raises:
        UserError: a split has no list, or a list names an image that is not there.
    """
    root = own_root(job)
    lists = {path.stem for path in (root / "ImageSets/Main").glob("*.txt")}
    ids = {"train": "train", "test": "val"}
    if "test" in lists:
        ids = {"train": "trainval" if "trainval" in lists else "train", "test": "test"}
    for name in ids.values():
        if name not in lists:
            raise UserError(
                f"data set {job.settings.name}: {root / 'ImageSets/Main' / name}.txt is missing; "
                "write ids of images into it, one a line. Lists are train.txt (or trainval.txt) "
                "and test.txt, or else train.txt and val.txt"
            )
    return Layout(_sources(job, root, ids), objects=job.classes, strict=True)


def _sources(job: Job, root: Path, lists: dict[str, str]) -> list[Source]:
    """Images and annotations of each split's list."""
    images = Stems(root / "JPEGImages", job.images(root / "JPEGImages", once=False))
    files = files_below(root / "Annotations", job.left_out, frozenset({".xml"}), once=False)
    annotations = Stems(root / "Annotations", files)
    sources = [
        Source(split, stem, image, annotations.find([stem]) or root / "Annotations" / f"{stem}.xml")
        for split, ids in lists.items()
        for stem, image in images.listed(root / "ImageSets/Main" / f"{ids}.txt", job.left_out)
    ]
    images.count_others([source.image for source in sources], job.left_out)
    annotations.count_others([source.label for source in sources], job.left_out)
    return sources

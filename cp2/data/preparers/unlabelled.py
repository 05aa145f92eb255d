"""Sets whose images alone are used: ImageNet, COCO, and a folder of the user's own."""

from pathlib import Path

from cp2.data.preparers.common import Job, Layout, below, containing
from cp2.data.unpack import unpack
from cp2.data.walk import files_below
from cp2.errors import UserError


def prepare_imagenet(job: Job) -> Layout:
    """ILSVRC2012_img_train.tar, a tar of one tar a class (n01440764.tar) -> train/<wnid>/*.JPEG."""
    job.unpack(lambda name: name.endswith(".tar"))
    train = job.folder / "train"
    for archive in files_below(job.folder, job.left_out, frozenset({".tar"})):
        unpack(archive, train / archive.stem, left_out=job.left_out)
        archive.unlink()  # one class at a time, so that the disk never holds all of it twice
    return Layout(below(train, job.images(train), "train"))


def prepare_coco(job: Job) -> Layout:
    """train2017 as unlabelled images, and unlabeled2017 where there is a second archive (COCO+)."""
    job.unpack(containing("/train2017/", "/unlabeled2017/"))
    folders = job.find(*("train2017", "unlabeled2017")[: len(job.archives)])
    return Layout([s for folder in folders for s in below(folder, job.images(folder), "train")])


def prepare_images(job: Job) -> Layout:
    """Every image below the user's folder, used in place."""
    root = own_root(job)
    return Layout(below(root, job.images(root), "train"))


def own_root(job: Job) -> Path:
    """The user's folder, absolute.

    Raises:
        UserError: it is not there.
    """
    assert job.settings.root is not None  # the settings model requires it
    root = Path(job.settings.root).expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"data set {job.settings.name}: root {root} is not a folder")
    return root

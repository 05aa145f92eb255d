"""Sets whose images alone are used: ImageNet, COCO, and a folder of the user's own."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cp2.data.members import Member, images_below, images_in
from cp2.data.preparers.common import Job, Layout, Source, below, containing
from cp2.data.unpack import start_of, unpack
from cp2.data.walk import files_below
from cp2.errors import UserError


def prepare_imagenet(job: Job) -> Layout:
    """ILSVRC2012_img_train.tar, a tar of one tar a class (n01440764.tar) -> train/<wnid>/*.JPEG."""
    if not job.settings.unpack:
        return Layout(_in_archives(job, lambda member: member.inner))
    job.unpack(lambda name: name.endswith(".tar"))
    train = job.folder / "train"
    for archive in files_below(job.folder, job.left_out, frozenset({".tar"})):
        unpack(archive, train / archive.stem, left_out=job.left_out)
        archive.unlink()  # one class at a time, so that the disk never holds all of it twice
    return Layout(below(train, job.images(train), "train"))


def prepare_coco(job: Job) -> Layout:
    """train2017 as unlabelled images, and unlabeled2017 where there is a second archive (COCO+)."""
    names = ("train2017", "unlabeled2017")[: len(job.archives)]
    if not job.settings.unpack:
        parts = [_in_archives(job, partial(_lies_in, folder=name)) for name in names]
        return Layout([source for part in parts for source in part])
    job.unpack(containing("/train2017/", "/unlabeled2017/"))
    folders = job.find(*names)
    return Layout([s for folder in folders for s in below(folder, job.images(folder), "train")])


def _lies_in(member: Member, folder: str) -> bool:
    return member.name.startswith(f"{folder}/")


def _in_archives(job: Job, wanted: Callable[[Member], bool]) -> list[Source]:
    """The images of all archives that unpacking would use."""
    sources = []
    for archive in job.archives:
        kind = ".zip" if start_of(archive).startswith(b"PK") else ".tar"
        link = job.folder / f"{archive.name.removesuffix(kind)}{kind}"
        if not link.is_symlink():
            link.symlink_to(archive.resolve())  # paths in the index stay in the data set's folder
        sources += below(job.folder, images_in(link, job.left_out, wanted), "train")
    return sources


def prepare_images(job: Job) -> Layout:
    """Every image below the user's folder, in tars there, too, used in place."""
    root = own_root(job)
    return Layout(below(root, images_below(root, job.left_out), "train"))


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

"""CamVid as the SegNet tutorial ships it: 360x480 PNGs, 11 classes, 11 is void."""

from cp2.data.labels import camvid_table
from cp2.data.preparers.common import Job, Layout, Source, containing
from cp2.errors import WrongFile

_SPLITS = ("train", "val", "test")


def prepare_camvid(job: Job) -> Layout:
    """CamVid/{train,val,test} and CamVid/{train,val,test}annot of the repository's archive."""
    job.unpack(containing("/CamVid/"))
    roots = sorted(job.folder.glob("*/CamVid"))  # the top folder carries the commit's name
    if len(roots) != 1:
        raise WrongFile(
            f"data set {job.settings.name}: expected one folder */CamVid in "
            f"{job.archives[0].name}, found {len(roots)}"
        )
    root = roots[0]
    sources = [
        Source(split, image.stem, image, root / f"{split}annot" / image.name)
        for split in _SPLITS
        for image in job.images(root / split)
    ]
    labels = tuple(root / f"{split}annot" for split in _SPLITS)
    return Layout(sources, camvid_table(), discard=labels)

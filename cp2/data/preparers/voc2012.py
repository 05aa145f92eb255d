"""PASCAL VOC 2012, with or without the Semantic Boundaries Dataset (SBD).

Train is (SBD train ∪ SBD val ∪ VOC train) minus VOC val: 10,582 images, VOC's own masks for VOC
train and SBD's for the rest. Val masks always come from VOC's SegmentationClass: the released
configuration reads SegmentationClassAug for both, which the usual converter leaves incomplete.
A third split, unlabelled, holds every photograph of the archive but VOC val's, for pretraining.
"""

from pathlib import Path

from cp2.data.labels import plain_table
from cp2.data.preparers.common import Job, Layout, Source, containing, read_ids

VOC = "VOCdevkit/VOC2012"
SBD = "benchmark_RELEASE/dataset"
_WANTED = containing(
    f"/{VOC}/JPEGImages/",
    f"/{VOC}/SegmentationClass/",
    f"/{VOC}/ImageSets/Segmentation/",
    f"/{SBD}/cls/",
    f"/{SBD}/train.txt",
    f"/{SBD}/val.txt",
)


def prepare_voc2012(job: Job) -> Layout:
    """VOC alone where only its archive is listed (1,464 train images), else VOC + SBD."""
    job.unpack(_WANTED)
    images, masks, lists = job.find(
        f"{VOC}/JPEGImages", f"{VOC}/SegmentationClass", f"{VOC}/ImageSets/Segmentation"
    )
    train = {name: masks / f"{name}.png" for name in read_ids(lists / "train.txt")}
    val = {name: masks / f"{name}.png" for name in read_ids(lists / "val.txt")}
    discard: tuple[Path, ...] = (masks,)
    if len(job.archives) > 1:
        train = _sbd_masks(job) | train
        discard += job.find(SBD.split("/")[0])
    sources = [
        Source(split, name, images / f"{name}.jpg", masks_of[name])
        for split, masks_of in (("train", train), ("val", val))
        for name in sorted(masks_of)
        if split == "val" or name not in val
    ]
    photographs = (path for path in job.images(images) if path.stem not in val)
    sources += [Source("unlabelled", path.stem, path) for path in photographs]
    return Layout(sources, plain_table(job.num_classes), discard=discard)


def _sbd_masks(job: Job) -> dict[str, Path]:
    masks, train, val = job.find(f"{SBD}/cls", f"{SBD}/train.txt", f"{SBD}/val.txt")
    return {name: masks / f"{name}.mat" for name in (*read_ids(train), *read_ids(val))}

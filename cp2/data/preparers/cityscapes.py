"""Cityscapes, fine annotations: labelIds become the 19 train ids.

The official archives hold no *_labelTrainIds.png; they are made here from *_labelIds.png.
"""

from cp2.data.labels import cityscapes_table
from cp2.data.preparers.common import Job, Layout, Source

IMAGE = "_leftImg8bit.png"
LABEL = "_gtFine_labelIds.png"
_SPLITS = ("train", "val")  # the test set's labels are not public


def prepare_cityscapes(job: Job) -> Layout:
    """Train and val of leftImg8bit and gtFine."""
    job.unpack(_wanted)
    images, labels = job.find("leftImg8bit", "gtFine")
    sources = []
    for split in _SPLITS:
        for image in job.images(images / split):
            name = f"{image.parent.name}/{image.name.removesuffix(IMAGE)}"
            sources.append(Source(split, name, image, labels / split / f"{name}{LABEL}"))
    return Layout(sources, cityscapes_table(), discard=(labels,))


def _wanted(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 4 and parts[1] in _SPLITS and name.endswith((IMAGE, LABEL))

"""ADE20K SceneParsing-150: 0 ("other") is ignored, 1..150 become 0..149, in train and val alike."""

from cp2.data.labels import ade20k_table
from cp2.data.preparers.common import Job, Layout, Source, containing

ROOT = "ADEChallengeData2016"
_SPLITS = {"train": "training", "val": "validation"}


def prepare_ade20k(job: Job) -> Layout:
    """images/ and annotations/ of the challenge archive."""
    job.unpack(containing(f"/{ROOT}/images/", f"/{ROOT}/annotations/"))
    images, labels = job.find(f"{ROOT}/images", f"{ROOT}/annotations")
    sources = [
        Source(split, image.stem, image, labels / official / f"{image.stem}.png")
        for split, official in _SPLITS.items()
        for image in job.images(images / official)
    ]
    return Layout(sources, ade20k_table(), discard=(labels,))

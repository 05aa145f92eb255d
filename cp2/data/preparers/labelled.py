"""A user's own labelled images, used in place.

root/images/<stem>.jpg     any image format
root/labels/<stem>.png     8-bit class ids 0..K-1, 255 to ignore
root/train.txt             stems, one a line; also val.txt and, if wanted, test.txt
"""

from pathlib import Path

from cp2.data.labels import plain_table
from cp2.data.preparers.common import Job, Layout, Source, images_below, read_ids
from cp2.data.preparers.unlabelled import own_root
from cp2.errors import UserError

_REQUIRED = ("train", "val")
_OPTIONAL = ("test",)


def prepare_labelled(job: Job) -> Layout:
    """Pair images and labels by stem, as the split lists say."""
    root = own_root(job)
    images = _by_stem(root / "images")
    sources = []
    for split in (*_REQUIRED, *_OPTIONAL):
        path = root / f"{split}.txt"
        if not path.is_file():
            if split in _REQUIRED:
                raise UserError(
                    f"data set {job.settings.name}: {path} is missing; write the stems of the "
                    f"{split} images into it, one a line (files below {root / 'images'})"
                )
            continue
        for stem in sorted(set(read_ids(path))):
            if stem not in images:
                raise UserError(
                    f"{path} names {stem!r}, but there is no image {root / 'images' / stem}.*"
                )
            sources.append(Source(split, stem, images[stem], root / "labels" / f"{stem}.png"))
    return Layout(sources, plain_table(job.num_classes), in_place=True)


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in images_below(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise UserError(f"{found[stem]} and {path} have the same stem; rename one of them")
        found[stem] = path
    return found

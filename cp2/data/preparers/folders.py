"""A user's own images in a folder for each class (torchvision's ImageFolder), used in place.

root/train/<class>/**/<name>.jpg    any image format; the folders' names are the classes
root/val/<class>/**/<name>.jpg      of these classes
"""

from cp2.data.preparers.common import Job, Layout, below
from cp2.data.preparers.unlabelled import own_root
from cp2.errors import UserError

_MOST = 255  # classes that a probe tells apart: its labels are bytes, one of which means none


def prepare_folders(job: Job) -> Layout:
    """Images of both splits; the first folder below the split's is the class.

    Raises:
        UserError: a split's folder is missing, an image is in no class's folder, val has a class of
            its own, or there is one class only, or too many.
    """
    root, name = own_root(job), job.settings.name
    sources, classes = [], {}
    for split in ("train", "val"):
        folder = root / split
        if not folder.is_dir():
            raise UserError(
                f"data set {name}: {folder} is missing; kind folders needs {root}/train/<class>/ "
                f"and {root}/val/<class>/"
            )
        found = below(folder, job.images(folder), split)
        for source in found:
            if "/" not in source.name:
                raise UserError(
                    f"data set {name}: {source.image} lies in no class's folder; move it into "
                    f"{folder}/<class>/"
                )
        classes[split] = {source.name.split("/")[0] for source in found}
        sources += found
    if new := sorted(classes["val"] - classes["train"]):
        raise UserError(
            f"data set {name}: {root / 'val'} has classes that train has not: {', '.join(new)}"
        )
    names = tuple(sorted(classes["train"]))
    if not 2 <= len(names) <= _MOST:
        raise UserError(
            f"data set {name}: {root / 'train'} has {len(names)} folders with images, which are "
            f"the classes; there must be 2 to {_MOST}"
        )
    return Layout(sources, classes=names)

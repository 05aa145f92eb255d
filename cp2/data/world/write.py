"""The archives of the demo world, and their checksums."""

from pathlib import Path

from cp2.data.download import SUMS
from cp2.data.hashing import digest
from cp2.data.world.archives import (
    World,
    write_ade20k,
    write_cityscapes,
    write_coco,
    write_imagenet,
    write_voc,
    write_voc2007,
)
from cp2.record.files import write_text
from cp2.settings.campaign import WorldSettings

VOC, SBD = "demo-VOCtrainval.tar", "demo-benchmark.tgz"
CITYSCAPES_IMAGES, CITYSCAPES_LABELS = "demo-leftImg8bit.zip", "demo-gtFine.zip"
ADE20K = "demo-ADEChallengeData.zip"
IMAGENET = "demo-ILSVRC_img_train.tar"
# Archives of each part; one later than the first is drawn only where a campaign needs it.
FILES = {
    "scenes": (VOC, SBD, CITYSCAPES_IMAGES, CITYSCAPES_LABELS, ADE20K, IMAGENET),
    "voc2007": ("demo-VOC2007trainval.tar", "demo-VOC2007test.tar"),
    "coco2017": (*("demo-train2017.zip", "demo-val2017.zip", "demo-annotations_trainval2017.zip"),),
}


def write_world(folder: Path, settings: WorldSettings, part: str = "scenes") -> list[Path]:
    """Draw a part of the world and write its archives; SHA256SUMS comes last. Returns all paths.

    Equal settings give equal bytes with equal versions of NumPy, SciPy and Pillow.

    Raises:
        UserError: the disk is full.
    """
    sums = folder / SUMS
    sums.unlink(missing_ok=True)
    world, paths = World(settings), [folder / file for file in FILES[part]]
    if part == "voc2007":
        write_voc2007(world, *paths)
    elif part == "coco2017":
        write_coco(world, *paths)
    else:
        write_voc(world, folder / VOC, folder / SBD)
        write_cityscapes(world, folder / CITYSCAPES_IMAGES, folder / CITYSCAPES_LABELS)
        write_ade20k(world, folder / ADE20K)
        write_imagenet(world, folder / IMAGENET)
    write_text(sums, "".join(f"{digest(path, 'sha256')}  {path.name}\n" for path in paths))
    return [*paths, sums]

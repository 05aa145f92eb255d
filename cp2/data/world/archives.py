"""The demo world's archives: laid out as the official ones, equal bytes for equal seeds."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count as counting
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.io
from contourpy import contour_generator
from PIL import Image

from cp2.data.labels import IGNORE
from cp2.data.world.places import ade_scene
from cp2.data.world.scenes import VOC_IDS, object_scene, voc_scene
from cp2.data.world.streets import street_scene
from cp2.record.files import whole_file
from cp2.settings.campaign import WorldSettings

JPEG_QUALITY = 90
Member = tuple[str, bytes]

# a WordNet id of the official ImageNet for each kind of object
WNIDS = {
    "n02690373": "aeroplane",
    "n01530575": "bird",
    "n04147183": "boat",
    "n04487081": "bus",
    "n02123045": "cat",
    "n02412080": "sheep",
    "n02930766": "car",
    "n03028079": "church",
}
_DIFFICULT = 0.02  # share of the picture below which an object is called so
_CROWD = 0.005  # likewise
_MAT_HEADER = 116  # bytes of free text, in which scipy writes the time


@dataclass(frozen=True)
class World:
    """Draws each scene from its own random numbers: (seed, archive, index)."""

    settings: WorldSettings

    def rng(self, archive: int, index: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, archive, index])

    def size(self, rng: np.random.Generator) -> tuple[int, int]:
        """Height and width of a photograph: 3:4, 2:3 or square, landscape or portrait."""
        short = self.settings.short_side
        long = round(short * rng.choice([1.0, 1.25, 4 / 3, 1.5], p=[0.1, 0.3, 0.4, 0.2]))
        return (long, short) if rng.random() < 0.15 else (short, long)


def write_voc(world: World, voc: Path, sbd: Path) -> None:
    """VOCtrainval tar and SBD's benchmark.tgz.

    As in the originals, SBD labels images of all of VOC's splits, too, and VOC's tar holds the
    photographs of both.
    """
    settings = world.settings
    splits = ["train"] * settings.voc_train + ["val"] * settings.voc_val
    splits += ["sbd"] * settings.sbd_extra
    names: dict[str, list[str]] = {"train": [], "val": [], "sbd": []}
    photographs: list[Member] = []
    masks: list[Member] = []
    mats: list[Member] = []
    for index, split in enumerate(splits):
        rng = world.rng(0, index)
        image, labels = voc_scene(rng, *world.size(rng))
        name = f"2010_{index:06d}"
        names[split].append(name)
        photographs.append((f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg", _jpeg(image)))
        if split != "sbd":
            mask = _palette_png(_with_borders(labels))
            masks.append((f"VOCdevkit/VOC2012/SegmentationClass/{name}.png", mask))
        if split == "sbd" or index % 2 == 0:
            mats.append((f"benchmark_RELEASE/dataset/cls/{name}.mat", _mat(labels)))
    lists = "VOCdevkit/VOC2012/ImageSets/Segmentation"
    ids = [(f"{lists}/{split}.txt", _lines(names[split])) for split in ("train", "val")]
    _write_tar(voc, [*photographs, *masks, *ids])

    labelled = [Path(name).stem for name, _ in mats]
    halves = {"train": labelled[::2], "val": labelled[1::2]}
    ids = [
        (f"benchmark_RELEASE/dataset/{split}.txt", _lines(half)) for split, half in halves.items()
    ]
    _write_tar(sbd, [*mats, *ids], compressed=True)


def write_voc2007(world: World, trainval: Path, test: Path) -> None:
    """VOC 2007's two tars of photographs and their objects: each class of a scene is one."""
    settings = world.settings
    lists = {"trainval": (trainval, settings.voc2007_train), "test": (test, settings.voc2007_test)}
    first = 1
    for stream, (split, (path, count)) in enumerate(lists.items(), 20):
        ids = [f"{index:06d}" for index in range(first, first + count)]
        members: list[Member] = []
        for index, name in enumerate(ids):
            rng = world.rng(stream, index)
            image, labels = voc_scene(rng, *world.size(rng))
            members.append((f"VOCdevkit/VOC2007/JPEGImages/{name}.jpg", _jpeg(image)))
            members.append((f"VOCdevkit/VOC2007/Annotations/{name}.xml", _xml(name, labels)))
        members.append((f"VOCdevkit/VOC2007/ImageSets/Main/{split}.txt", _lines(ids)))
        _write_tar(path, members)
        first += count


def write_coco(world: World, train: Path, val: Path, annotations: Path) -> None:
    """COCO 2017's three zips: each class of a scene is an object, a small one a crowd, as runs."""
    files, objects, settings = [], counting(1), world.settings
    categories = [{"id": number, "name": name} for name, number in VOC_IDS.items()]
    splits = (("train2017", train, settings.coco_train), ("val2017", val, settings.coco_val))
    for stream, (split, path, images) in enumerate(splits, 22):
        photographs: list[Member] = []
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
        for index in range(images):
            rng = world.rng(stream, index)
            image, labels = voc_scene(rng, *world.size(rng))
            name, (height, width) = f"{index + 1:012d}.jpg", labels.shape
            photographs.append((f"{split}/{name}", _jpeg(image)))
            size = {"width": width, "height": height}
            content["images"].append({"id": index + 1, "file_name": name} | size)
            content["annotations"] += [
                {"id": next(objects), "image_id": index + 1, "category_id": number}
                | _instance(labels == number)
                for number in np.unique(labels[labels > 0]).tolist()
            ]
        _write_zip(path, photographs)
        files.append((f"annotations/instances_{split}.json", json.dumps(content).encode()))
    _write_zip(annotations, files)


def _instance(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Box, area and mask of an object as COCO writes them."""
    rows, columns = np.nonzero(mask)
    box = np.array([columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1])
    found: dict[str, Any] = {"bbox": box.tolist(), "area": rows.size}
    if rows.size < _CROWD * mask.size:
        edges = np.flatnonzero(np.diff(mask.ravel("F"), prepend=False, append=False))
        runs = np.diff(edges, prepend=0, append=mask.size).tolist()
        return found | {"iscrowd": 1, "segmentation": {"counts": runs, "size": mask.shape}}
    lines = contour_generator(z=np.pad(mask, 1).astype(float)).lines(0.5)
    outlines = [(np.array(line)[:-1] - 0.5).ravel().tolist() for line in lines]  # centres are at .5
    return found | {"iscrowd": 0, "segmentation": outlines}


def write_cityscapes(world: World, images: Path, labels: Path) -> None:
    """leftImg8bit and gtFine zips, pictures twice as wide as high."""
    side = world.settings.short_side
    photographs: list[Member] = []
    masks: list[Member] = []
    counts = {"train": world.settings.cityscapes_train, "val": world.settings.cityscapes_val}
    for city, (split, count) in zip(("demostadt", "probeburg"), counts.items(), strict=True):
        for index in range(count):
            rng = world.rng(1 if split == "train" else 2, index)
            image, ids = street_scene(rng, side, 2 * side)
            name = f"{split}/{city}/{city}_{index:06d}_000019"
            photographs.append((f"leftImg8bit/{name}_leftImg8bit.png", _png(image)))
            masks.append((f"gtFine/{name}_gtFine_labelIds.png", _png(ids)))
    _write_zip(images, photographs)
    _write_zip(labels, masks)


def write_ade20k(world: World, path: Path) -> None:
    """The SceneParsing zip: images and annotations of varied sizes."""
    members: list[Member] = []
    root = "ADEChallengeData2016"
    counts = {"training": world.settings.ade20k_train, "validation": world.settings.ade20k_val}
    for split, count in counts.items():
        for index in range(count):
            rng = world.rng(3 if split == "training" else 4, index)
            image, ids = ade_scene(rng, *world.size(rng))
            name = f"{split}/ADE_{'train' if split == 'training' else 'val'}_{index + 1:08d}"
            members.append((f"{root}/images/{name}.jpg", _jpeg(image)))
            members.append((f"{root}/annotations/{name}.png", _png(ids)))
    _write_zip(path, members)


def write_imagenet(world: World, path: Path) -> None:
    """A tar of one tar a class."""
    classes: list[Member] = []
    for number, (wnid, name) in enumerate(WNIDS.items()):
        if number == world.settings.imagenet_classes:
            break
        photographs: list[Member] = []
        for index in range(world.settings.imagenet_per_class):
            rng = world.rng(5 + number, index)
            image, _ = object_scene(rng, *world.size(rng), [name])
            photographs.append((f"{wnid}_{index}.JPEG", _jpeg(image)))
        classes.append((f"{wnid}.tar", _tar(photographs)))
    _write_tar(path, classes)


# ---- pictures ----


def _jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    return _encoded(Image.fromarray(image), format="JPEG", quality=JPEG_QUALITY)


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    return _encoded(Image.fromarray(image), format="PNG", compress_level=1)


def _palette_png(labels: npt.NDArray[np.uint8]) -> bytes:
    picture = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
    picture.putpalette(_voc_palette())
    return _encoded(picture, format="PNG")


def _encoded(picture: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def _voc_palette() -> bytes:
    """VOC's colour map: an index's bits, spread over the high bits of R, G and B."""
    colours = np.zeros((256, 3), np.uint8)
    for index in range(256):
        for bit in range(8):
            colours[index, bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return colours.tobytes()


def _with_borders(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """VOC leaves the rim of each object unlabelled."""
    marked = labels.copy()
    rows = labels[1:] != labels[:-1]
    columns = labels[:, 1:] != labels[:, :-1]
    for region, differs in (
        (np.s_[1:], rows),
        (np.s_[:-1], rows),
        (np.s_[:, 1:], columns),
        (np.s_[:, :-1], columns),
    ):
        marked[region][differs] = IGNORE
    return marked


def _mat(labels: npt.NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"GTcls": {"Segmentation": labels}}, do_compression=True)
    return b"MATLAB 5.0 MAT-file".ljust(_MAT_HEADER) + stream.getvalue()[_MAT_HEADER:]


def _xml(name: str, labels: npt.NDArray[np.uint8]) -> bytes:
    """VOC's annotation: boxes count pixels from 1 and hold their last row and column."""
    text = f"<filename>{name}.jpg</filename><size><width>{labels.shape[1]}</width>"
    text += f"<height>{labels.shape[0]}</height><depth>3</depth></size>"
    for kind, label in VOC_IDS.items():
        rows, columns = 1 + np.array(np.nonzero(labels == label))
        if rows.size:
            sides = zip(
                ("xmin", "ymin", "xmax", "ymax"),
                (columns.min(), rows.min(), columns.max(), rows.max()),
                strict=True,
            )
            box = "".join(f"<{side}>{at}</{side}>" for side, at in sides)
            difficult = int(rows.size < _DIFFICULT * labels.size)
            text += f"<object><name>{kind}</name><difficult>{difficult}</difficult>"
            text += f"<bndbox>{box}</bndbox></object>"
    return f"<annotation>{text}</annotation>\n".encode()


def _lines(names: Sequence[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


# ---- archives: fixed times and owners, so that equal content gives equal bytes ----


def _tar(members: Iterable[Member]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _write_tar(path: Path, members: Iterable[Member], *, compressed: bool = False) -> None:
    content = _tar(members)
    with whole_file(path) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if compressed else content)


def _write_zip(path: Path, members: Iterable[Member]) -> None:
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)

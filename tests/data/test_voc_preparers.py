"""VOC 2007's archives, and folders of one's own in their layout."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cp2.data.annotations import read_objects
from cp2.data.index import DatasetIndex, read_index
from cp2.data.preparers import prepare
from cp2.data.preparers.census import AS_STORED, UNSAID
from cp2.errors import UserError, WrongFile
from cp2.settings.datasets import Archive, ClassList, DatasetSettings

TWO = ClassList(name="two", classes=("cat", "dog"), palette=((9, 9, 9), (50, 0, 0)))
XML = """<annotation><object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>{}</xmax>
<ymax>5</ymax></bndbox></object></annotation>"""


def test_the_two_archives_make_two_splits(demo: Callable[..., Any], tmp_path: Path) -> None:
    settings, classes = demo("demo-voc2007")
    prepare(settings, classes, tmp_path / "set")
    index = read_index(tmp_path / "set")
    assert [path.stem for path in index.paths("train")] == [f"{n:06d}" for n in range(1, 6)]
    assert [path.stem for path in index.paths("test")] == [f"{n:06d}" for n in range(6, 10)]
    for split in ("train", "test"):
        for image, label in zip(index.paths(split), index.labels(split), strict=True):
            assert label.stem == image.stem
            with Image.open(image) as picture:
                assert read_objects(label, index.classes or (), picture.size)


def test_a_third_archive_is_vocs_2012(tmp_path: Path) -> None:
    archives = []
    for number, (year, ids) in enumerate(
        (("2007", "trainval"), ("2007", "test"), ("2012", "trainval")), 1
    ):
        root = tmp_path / f"{number}/VOCdevkit/VOC{year}"
        own(root, {ids: f"{number}\n", "other": "3\n"})
        with tarfile.open(tmp_path / f"{number}.tar", "w") as tar:
            tar.add(tmp_path / f"{number}/VOCdevkit", "VOCdevkit")
        archives.append(Archive(file=f"{number}.tar"))
    settings = DatasetSettings(
        kind="voc2007", name="three", title="", classes="two", archives=tuple(archives)
    )
    prepare(settings, TWO, tmp_path / "set", [tmp_path])
    index = read_index(tmp_path / "set")
    assert (stems(index, "train"), stems(index, "test")) == (["1", "3"], ["2"])
    assert all(path.is_file() for path in (*index.paths("train"), *index.labels("train")))


def own(root: Path, lists: dict[str, str], last: int = 8) -> DatasetSettings:
    """Images 1 to 3 of 8x6 pixels; the last one's object is `last` pixels wide."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for n in (1, 2, 3):
        Image.new("RGB", (8, 6)).save(root / f"JPEGImages/{n}.png")
        text = XML.format("dog" if n == 2 else "cat", last if n == 3 else 8)
        (root / f"Annotations/{n}.xml").write_text(text)
    for name, text in lists.items():
        (root / f"ImageSets/Main/{name}.txt").write_text(text)
    return DatasetSettings(kind="voc", name="own", title="", root=str(root), classes="two")


def stems(index: DatasetIndex, split: str) -> list[str]:
    return [path.stem for path in index.paths(split)]


@pytest.mark.parametrize(
    ("lists", "train", "test"),
    [
        ({"train": "1\n2\n", "val": "3\n"}, ["1", "2"], ["3"]),
        ({"train": "1\n", "val": "2\n", "trainval": "2\n1\n", "test": "3\n"}, ["1", "2"], ["3"]),
        ({"train": "1\n", "test": "3\n"}, ["1"], ["3"]),
    ],
)
def test_an_own_folder_is_used_in_place(
    tmp_path: Path, lists: dict[str, str], train: list[str], test: list[str]
) -> None:
    prepare(own(tmp_path / "own", lists), TWO, tmp_path / "set")
    index = read_index(tmp_path / "set")
    assert (stems(index, "train"), stems(index, "test")) == (train, test)
    assert index.labels("test") == [tmp_path / "own/Annotations/3.xml"]
    assert {path.name for path in (tmp_path / "set").iterdir()} >= {"dataset.json", "index.csv"}


def test_what_is_wrong_names_the_file(tmp_path: Path) -> None:
    root = tmp_path / "own"
    settings = own(root, {"train": "1\n2\n", "val": "3\n"}, last=20)
    with pytest.raises(WrongFile, match=r"3.xml: object 1 \(cat\): its box 1, 1 to 20, 5 leaves"):
        prepare(settings, TWO, tmp_path / "set")
    (root / "Annotations/3.xml").unlink()
    with pytest.raises(WrongFile, match=r"3\.xml: is not there"):
        prepare(settings, TWO, tmp_path / "set")
    (root / "ImageSets/Main/val.txt").write_text("4\n")
    with pytest.raises(UserError, match=r"names .4., but there is no image"):
        prepare(settings, TWO, tmp_path / "set")
    (root / "ImageSets/Main/val.txt").unlink()
    with pytest.raises(UserError, match=r"Main/val.txt is missing; write ids of images into it"):
        prepare(settings, TWO, tmp_path / "set")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        *(((4000, 3000), True), ((6, 8), True), ((8, 6), False), ((0, 0), False)),
        *((("70.0", "60.0"), True), ((-8, 6), True), ((8, ""), True), (("8.0", "6.0"), False)),
    ],
)
def test_an_own_annotation_is_of_its_images_size(
    tmp_path: Path, size: tuple[int | str, int | str], said: bool
) -> None:
    """Boxes drawn on a smaller copy, or on the image turned, may fit."""
    settings = own(tmp_path / "own", {"train": "1\n2\n", "val": "3\n"})
    file = tmp_path / "own/Annotations/1.xml"
    text = "<size><width>{}</width><height>{}</height></size></annotation>".format(*size)
    file.write_text(file.read_text().replace("</annotation>", text))
    if not said:
        prepare(settings, TWO, tmp_path / "set")
        return
    with pytest.raises(WrongFile, match=rf"1\.xml: is of an image of {size[0]}x{size[1]} pixels"):
        prepare(settings, TWO, tmp_path / "set")


def test_a_size_that_is_no_number_of_pixels_is_a_message(tmp_path: Path) -> None:
    settings = own(tmp_path / "own", {"train": "1\n2\n", "val": "3\n"})
    file = tmp_path / "own/Annotations/1.xml"
    size = f"<size><width>{'9' * 5000}</width><height>6</height></size></annotation>"
    file.write_text(file.read_text().replace("</annotation>", size))
    with pytest.raises(WrongFile, match=r"1\.xml: is of an image of 9+x6 pixels"):
        prepare(settings, TWO, tmp_path / "set")


def test_objects_are_counted_and_what_cannot_be_scored_is_told(tmp_path: Path) -> None:
    settings = own(tmp_path / "own", {"train": "1\n3\n", "val": "1\n2\n"})
    Image.new("RGB", (8, 6), "red").save(tmp_path / "own/JPEGImages/2.png")
    Image.new("RGB", (8, 6), "blue").save(tmp_path / "own/JPEGImages/3.png")
    prepare(settings, TWO, tmp_path / "set")
    assert read_index(tmp_path / "set").record.notes == (
        "objects of train: cat 2, difficult or a crowd 0",
        "objects of test: cat 1, dog 1, difficult or a crowd 0",
        "no object in train of 1 (dog)",
        "test has objects of 1 (dog), but train has none: they score 0",
        "the same images in two splits: 1 (1 of train is 1 of test)",
    )


@pytest.mark.parametrize(("stated", "note"), [(True, AS_STORED), (False, UNSAID)])
def test_a_stated_size_tells_how_an_image_with_exif_lies(
    tmp_path: Path, stated: bool, note: str
) -> None:
    settings = own(tmp_path / "own", {"train": "1\n2\n", "val": "3\n"})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "own/JPEGImages/1.png", exif=exif)
    file = tmp_path / "own/Annotations/1.xml"
    size = "<size><width>8</width><height>6</height></size>" if stated else ""
    file.write_text(file.read_text().replace("</annotation>", f"{size}</annotation>"))
    notes = prepare(settings, TWO, tmp_path / "set").notes
    assert f"images with an EXIF orientation {note}: 1 ({tmp_path}/own/JPEGImages/1.png)" in notes


def test_images_without_objects_are_told(tmp_path: Path) -> None:
    settings = own(tmp_path / "own", {"train": "1\n2\n", "val": "3\n"})
    (tmp_path / "own/Annotations/1.xml").write_text("<annotation/>")
    notes = prepare(settings, TWO, tmp_path / "set").notes
    assert f"images of train without objects: 1 ({tmp_path}/own/JPEGImages/1.png)" in notes


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation></annotation>", "split test has no object; nothing can"),
        (
            XML.format("dog", 8).replace("</object>", "<difficult>1</difficult></object>"),
            "split test has no object that is not difficult or a crowd",
        ),
    ],
)
def test_a_split_without_objects_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    settings = own(tmp_path / "own", {"train": "1\n2\n", "val": "3\n"})
    (tmp_path / "own/Annotations/3.xml").write_text(text)
    with pytest.raises(WrongFile, match=reason):
        prepare(settings, TWO, tmp_path / "set")

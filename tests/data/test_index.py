import itertools
import math
from pathlib import Path

import pytest

from cp2.data.index import (
    DatasetRecord,
    Item,
    Split,
    label_fraction,
    read_index,
    read_record,
    write_index,
    write_record,
)
from cp2.errors import UserError, WrongFile

ITEMS = [
    Item("train", "files/a,b.jpg", "files/labels/a.png"),
    Item("train", "/elsewhere/c d.jpg", "/elsewhere/c.png"),
    Item("val", 'files/"q".jpg'),
]


def record(**splits: int) -> DatasetRecord:
    return DatasetRecord(
        name="set",
        kind="labelled",
        title="A set",
        digest="0" * 64,
        splits={split: Split(images=count) for split, count in splits.items()},
        classes=("one", "two"),
        palette=((0, 0, 0), (1, 2, 3)),
        archives=(),
        created="2024-01-01T00:00:00+00:00",
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_index(tmp_path, ITEMS)
    write_record(tmp_path, record(train=2, val=1))
    index = read_index(tmp_path)
    assert index.paths("train") == [tmp_path / "files/a,b.jpg", Path("/elsewhere/c d.jpg")]
    assert index.labels("train") == [tmp_path / "files/labels/a.png", Path("/elsewhere/c.png")]
    assert index.paths("val") == [tmp_path / 'files/"q".jpg']
    assert index.classes == ("one", "two")
    assert index.palette == ((0, 0, 0), (1, 2, 3))


def test_unknown_split_and_missing_labels(tmp_path: Path) -> None:
    write_index(tmp_path, ITEMS)
    write_record(tmp_path, record(train=2, val=1))
    index = read_index(tmp_path)
    with pytest.raises(UserError, match="no split 'test'; it has train, val"):
        index.paths("test")
    with pytest.raises(UserError, match="no labels in split val"):
        index.labels("val")


def test_unprepared_folder_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cp2 dataset camvid"):
        read_index(tmp_path / "camvid")
    assert read_record(tmp_path / "camvid") is None


def test_damaged_record(tmp_path: Path) -> None:
    write_record(tmp_path, record(train=2))
    path = tmp_path / "dataset.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(WrongFile, match="damaged"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "split,image\ntrain,a\n", "split,image,label\ntrain,a,b,c\n", "split,image,label\n"],
)
def test_damaged_index(tmp_path: Path, text: str) -> None:
    write_record(tmp_path, record(train=1))
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(WrongFile, match=r"index\.csv"):
        read_index(tmp_path)


def test_missing_index(tmp_path: Path) -> None:
    write_record(tmp_path, record(train=1))
    with pytest.raises(WrongFile, match=r"index\.csv"):
        read_index(tmp_path)


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101])
@pytest.mark.parametrize("fraction", [1e-9, 0.01, 0.07, 0.25, 0.5, 1.0])
def test_label_fraction_size_order_and_repetition(count: int, fraction: float) -> None:
    items = list(range(count))
    chosen = label_fraction(items, fraction, seed=3)
    expected = max(1, math.ceil(round(fraction * count, 6)))
    assert len(chosen) == expected
    assert chosen == sorted(set(chosen))
    assert chosen == label_fraction(items, fraction, seed=3)


def test_label_fractions_are_nested_and_depend_on_the_seed() -> None:
    items = [f"image{i}" for i in range(200)]
    subsets = [set(label_fraction(items, f, seed=0)) for f in (0.05, 0.1, 0.5, 1.0)]
    assert all(small < large for small, large in itertools.pairwise(subsets))
    assert set(label_fraction(items, 0.1, seed=1)) != subsets[1]


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, float("nan")])
def test_label_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(UserError, match="outside"):
        label_fraction([1, 2], fraction, seed=0)


def test_index_of_another_record(tmp_path: Path) -> None:
    noted = record(train=2, val=1).model_copy(update={"index_sha256": write_index(tmp_path, ITEMS)})
    write_record(tmp_path, noted)
    assert len(read_index(tmp_path).items) == 3
    write_index(tmp_path, [*ITEMS[:2], ITEMS[2]._replace(image="files/other.jpg")])
    with pytest.raises(WrongFile, match="its SHA-256 differs"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ("kind", "root", "image"),
    [
        ("labelled", "/data", "../x.jpg"),
        ("labelled", "/data", "files/../../x.jpg"),
        ("labelled", "/data", "/etc/x.jpg"),
        ("labelled", "/data", "/data2/x.jpg"),
        ("labelled", "/data", "/data/../etc/x.jpg"),
        ("voc2012", None, "/data/x.jpg"),
        ("labelled", "/data", "/data/x\0.jpg"),
    ],
)
def test_paths_stay_inside(tmp_path: Path, kind: str, root: str | None, image: str) -> None:
    write_index(tmp_path, [Item("train", image)])
    write_record(tmp_path, record(train=1).model_copy(update={"kind": kind, "root": root}))
    with pytest.raises(WrongFile, match=r"names .*, which is not in the data set's folder"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([Item("train", "")] * 2, "an empty image in train"),
        ([Item("train", "x.jpg", "x.png")] * 2, "names 'x.jpg' of train 2 times"),
        ([Item("train", "x.jpg"), Item("trian", "y.jpg")], "'trian': 1"),
    ],
)
def test_every_row_is_an_image_of_its_own(tmp_path: Path, items: list[Item], reason: str) -> None:
    write_index(tmp_path, items)
    write_record(tmp_path, record(train=2))
    with pytest.raises(WrongFile, match=reason):
        read_index(tmp_path)

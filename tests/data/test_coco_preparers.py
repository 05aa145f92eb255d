"""COCO's json: read entry by entry, refused by name, and prepared from archives and own folders."""

import json
import zipfile
from collections.abc import Callable
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cp2.data.annotations import ImageObject, image_labels, read_objects
from cp2.data.index import read_index
from cp2.data.preparers import json_entries, prepare
from cp2.data.preparers.coco_file import CocoFile, _box_of
from cp2.errors import UserError, WrongFile
from cp2.protocols.detection.masks import decoded, runs_of
from cp2.settings.datasets import ClassList, DatasetSettings

TWO = ClassList(name="two", classes=("cat", "dog"), palette=((9, 9, 9), (50, 0, 0)))
BOX = [1.0, 1, 3, 2]
SQUARE = [1.0, 1, 4, 1, 4, 3, 1, 3]
RUNS = {"counts": [6, 2, 40], "size": [6, 8]}


def annotation(number: int = 1, **changes: Any) -> dict[str, Any]:
    usual = {"id": number, "image_id": 1, "category_id": 7, "bbox": BOX, "area": 6.0}
    return usual | {"iscrowd": 0, "segmentation": [SQUARE]} | changes


def content(*annotations: dict[str, Any], images: int = 2) -> dict[str, Any]:
    return {
        "info": {"nested": [[1], {"a": "]}"}]},
        "extra": [1, {"a": []}],
        "annotations": list(annotations),  # before the images that they are of
        "images": [
            {"id": n, "file_name": f"bild_ä{n}.png", "width": 8, "height": 6}
            for n in range(1, images + 1)
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 90, "name": "dog"}],
    }


def coco(path: Path, *annotations: dict[str, Any], strict: bool = True) -> CocoFile:
    path.write_text(json.dumps(content(*annotations), ensure_ascii=False))
    return CocoFile(path, TWO.classes, strict)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_objects_of_each_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_entries, "_CHUNK", chunk)
    crowd = annotation(2, iscrowd=1, segmentation=RUNS, category_id=90)
    file = coco(tmp_path / "a.json", annotation(1), annotation(3, image_id=2), crowd)
    (one, first), (two, second) = file.objects()
    assert (one.file, two.file, one.size) == ("bild_ä1.png", "bild_ä2.png", (8, 6))
    assert first == [
        ImageObject("cat", (1, 1, 4, 3), False, False, 6.0, [SQUARE]),
        ImageObject("dog", (1, 1, 4, 3), True, True, 6.0, RUNS),
    ]
    assert [one.name for one in second] == ["cat"]


def test_compressed_runs_are_pycocotools_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        mask = rng.random((6, 8)) < share
        (runs,) = runs_of(mask[None])
        text = {"counts": runs["counts"].decode(), "size": runs["size"]}
        lenient = coco(tmp_path / "a.json", annotation(segmentation=text), strict=False)
        ((_, (found,)), _) = lenient.objects()
        assert (decoded(found.mask, (6, 8)).astype(bool) == mask).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 5}, "annotation 1 is of image 5, which the file does not have"),
        ({"category_id": 1}, "annotation 1 is of category 1, which the file does not have"),
        ({"category_id": None}, "annotation 1: category_id is 'None', must be a whole number"),
        ({"bbox": [1, 1, float("nan"), 2]}, r"annotation 1 \(cat\) of bild_ä1.png: bbox is .*nan"),
        ({"bbox": [1, 1, 10**400, 2]}, "bbox is .*000, must be numbers"),
        ({"area": 10**400}, "area is .*must be numbers"),
        ({"bbox": [1, 1, 3]}, "must be x, y, width, height"),
        ({"bbox": [1, 1, 0, 2]}, "its box 1, 1 of 0x2 has no area"),
        ({"bbox": [1, 1, 9, 2]}, "its box 1, 1 of 9x2 leaves the image, which is 8x6 pixels"),
        ({"area": 0}, "cannot hold its area of 0"),
        ({"area": 500}, r"its box .* cannot hold its area of 500"),
        (
            {"bbox": [4, 3, 3, 2]},
            "polygon 1 leaves its object.s box 4, 3, 3, 2, which",
        ),
        ({"iscrowd": 2}, "iscrowd is 2, must be 0 or 1"),
        ({"segmentation": [SQUARE, [1.0, 1, 2, 2]]}, "polygon 2 of 4 numbers has no area"),
        ({"segmentation": [[1.0, 1, 2, 2, 3, 3]]}, "polygon 1 of 6 numbers has no area"),
        ({"segmentation": [[1.0, 1, 20, 2, 3, 3]]}, "polygon 1 leaves the image"),
        ({"segmentation": ["x"]}, "must be a list of polygons, or counts and size"),
        ({"segmentation": RUNS | {"size": [8, 6]}}, r"size \[8, 6\], must be \[6, 8\]"),
        ({"segmentation": RUNS | {"size": None}}, r"size None, must be \[6, 8\]"),
        ({"segmentation": RUNS | {"size": 5}}, r"size 5, must be \[6, 8\]"),
        ({"segmentation": RUNS | {"counts": "o" * 300_000}}, "add up to 8 x 6"),
        ({"segmentation": RUNS | {"counts": [6, 2]}}, "add up to 8 x 6"),
        ({"segmentation": RUNS | {"counts": "0o~~"}}, "add up to 8 x 6"),
        ({"segmentation": RUNS | {"counts": [48]}}, "its mask has no pixel"),
        (
            {"segmentation": RUNS | {"counts": [40, 2, 6]}},  # column 6, rows 4 and 5
            "its mask leaves its object.s box 1, 1, 3, 2, .*; counts go down column by column",
        ),
        ({"segmentation": RUNS | {"counts": [9, 3, 5, 3, 28]}}, "its mask leaves"),  # row by row
    ],
)
def test_names_the_file_and_the_object(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(WrongFile, match=rf"a\.json: .*{message}"):
        list(coco(tmp_path / "a.json", annotation(**changes)).objects())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"].append(c["images"][0]), "image 1 is there twice"),
        (lambda c: c["images"][1].update(file_name="bild_ä1.png"), "2 have the file_name"),
        (lambda c: c["images"][0].update(width=0), "is 0x6 pixels"),
        (lambda c: c["annotations"].append(annotation(1)), "annotation 1 is there twice"),
        (lambda c: c["categories"][1].update(name="cot"), "category 'cot' is no class; did you"),
        (lambda c: c["categories"][1].update(name="cat"), "2 have the category 'cat'"),
        (lambda c: c.pop("images"), "has no images, or empty ones; a COCO json has all three"),
    ],
)
def test_lists_are_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    whole = content(annotation(1))
    change(whole)
    (tmp_path / "a.json").write_text(json.dumps(whole))
    with pytest.raises(WrongFile, match=message):
        CocoFile(tmp_path / "a.json", TWO.classes, strict=True)


def test_boxes_of_runs_are_those_of_their_pixels() -> None:
    rng = np.random.default_rng(0)
    for height, width, share in product((1, 2, 7), (1, 3, 8), (0.1, 0.5, 1.0)):
        mask = rng.random((height, width)) < share
        mask[rng.integers(height), rng.integers(width)] = True
        counts = [0, 0]  # a run of no pixel
        for value, group in groupby(mask.T.ravel()):
            counts += [0] * (int(value) != len(counts) % 2) + [len(list(group))]
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert _box_of(counts, height) == box


def test_two_names_of_one_file_are_refused(tmp_path: Path) -> None:
    whole = content(annotation(1), annotation(2, image_id=2))
    whole["images"][1]["file_name"] = "./bild_ä1.png"
    (tmp_path / "a.json").write_text(json.dumps(whole))
    with pytest.raises(WrongFile, match=r"2 have the file_name 'bild_ä1.png'"):
        CocoFile(tmp_path / "a.json", TWO.classes, strict=True)


@pytest.mark.parametrize("chunk", [1, 7, 100, 1 << 20])
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"area": 6.0, "iscrowd": 1', '"area": [6.0, "iscrowd": 1', "entry 2 of annotations: Expe"),
        ('"iscrowd": 1', '"iscrowd": tru', "entry 2 of annotations: Expecting"),
        ('"iscrowd": 1', '"is\ncrowd": 1', "entry 2 of annotations: Invalid control character"),
        ('"name": "dog"}', '"name": "dog"},', "entry 3 of categories: Expecting value"),
        ('"dog"}]', '"dog"}],', "Expecting value"),
        ('"dog"}]}', '"dog"}]} x', "'x'"),
    ],
)
def test_damage_is_told_by_its_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, old: str, new: str, message: str
) -> None:
    monkeypatch.setattr(json_entries, "_CHUNK", chunk)
    crowds = [annotation(n, iscrowd=1) for n in range(2, 40)]
    good = json.dumps(content(annotation(1), *crowds), ensure_ascii=False)
    bad = good.replace(old, new, 1)
    (tmp_path / "a.json").write_text(bad)
    try:
        json.loads(bad)
    except json.JSONDecodeError as error:
        at = len(bad[: error.pos].encode())
    near = "|".join(str(at + n) for n in (-1, 0, 1))  # a comma, or what follows it
    with pytest.raises(WrongFile, match=rf"{message}.* at byte ({near})\b"):
        CocoFile(tmp_path / "a.json", TWO.classes, strict=True)


def test_damage_is_found_long_before_the_largest_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_entries, "_LARGEST", 1000)
    monkeypatch.setattr(json_entries, "_CHUNK", 100)
    text = json.dumps(content(*(annotation(n) for n in range(100)))).replace("]]", "]", 1)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(WrongFile, match=r"entry 1 of annotations: .* at byte"):
        CocoFile(tmp_path / "a.json", TWO.classes, strict=True)


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content(annotation(1))), "utf-8-sig")
    file = CocoFile(tmp_path / "a.json", TWO.classes, strict=True)
    assert [len(objects) for _, objects in file.objects()] == [1, 0]


@pytest.mark.parametrize("text", ["[]", '{"images": [1', '{"images": [{"id": 1}}', "{", "[" * 9999])
def test_what_is_no_coco_json_is_a_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(WrongFile, match=r"a\.json"):
        CocoFile(tmp_path / "a.json", TWO.classes, strict=True)


def test_an_endless_entry_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_entries, "_LARGEST", 1000)
    monkeypatch.setattr(json_entries, "_CHUNK", 100)
    (tmp_path / "a.json").write_text('{"info": "' + "x" * 9000)
    with pytest.raises(WrongFile, match="an entry of more than"):
        CocoFile(tmp_path / "a.json", TWO.classes, strict=True)


def test_the_official_files_may_hold_objects_that_teach_nothing(tmp_path: Path) -> None:
    flat = annotation(1, bbox=[1, 1, 3, 0], segmentation=[[1.0, 1, 4, 1]])
    ((_, (found,)), _) = coco(tmp_path / "a.json", flat, strict=False).objects()
    assert (found.box, found.mask) == ((1, 1, 4, 1), None)


def own(root: Path, *annotations: dict[str, Any]) -> DatasetSettings:
    """Two images a split; the second one is empty."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train2020", "val2020"):
        (root / split).mkdir()
        for n in (1, 2):
            noise = np.random.default_rng([n, len(split)]).integers(0, 255, (6, 8, 3), np.uint8)
            Image.fromarray(noise).save(root / split / f"bild_ä{n}.png")
        file = root / f"annotations/instances_{split}.json"
        file.write_text(json.dumps(content(*(annotations or (annotation(1),)))))
    return DatasetSettings(kind="coco-json", name="own", title="", root=str(root), classes="two")


def test_an_own_folder_is_used_in_place(tmp_path: Path) -> None:
    settings = own(tmp_path / "own", annotation(1), annotation(2, category_id=90, iscrowd=1))
    record = prepare(settings, TWO, tmp_path / "set")
    assert "objects of train: cat 1, difficult or a crowd 1" in record.notes
    index = read_index(tmp_path / "set")
    for split, folder in (("train", "train2020"), ("test", "val2020")):
        assert [p.name for p in index.paths(split)] == ["bild_ä1.png", "bild_ä2.png"]
        assert index.paths(split)[0].parent == tmp_path / "own" / folder
        one, nothing = (read_objects(path, TWO.classes, (8, 6)) for path in index.labels(split))
        assert [found.name for found in one] == ["cat", "dog"]
        assert nothing == []
    labels = image_labels(index.labels("train"), TWO.classes)
    np.testing.assert_array_equal(labels, [[1, -1], [0, 0]])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda root: (root / "val2020/bild_ä2.png").unlink(),
            r"image 2 \(bild_ä2.png\) is not in",
        ),
        (
            lambda root: Image.new("RGB", (6, 8)).save(root / "val2020/bild_ä2.png"),
            r"own/val2020/bild_ä2.png, described in .*/instances_val2020.json: bild_ä2.png is 6x8, "
            "its annotations are of an image of 8x6 .* save it upright",
        ),
        (lambda root: (root / "annotations/instances_val2020.json").unlink(), "no file is .*val"),
        (
            lambda root: (root / "annotations/instances_train.json").write_text("{}"),
            "2 files are .*train",
        ),
    ],
)
def test_what_an_own_folder_lacks(
    tmp_path: Path, break_it: Callable[[Path], None], message: str
) -> None:
    settings = own(tmp_path / "own")
    break_it(tmp_path / "own")
    with pytest.raises(UserError, match=message):
        prepare(settings, TWO, tmp_path / "set")


@pytest.mark.parametrize(("length", "fits"), [(250, True), (251, True), (255, True), (256, False)])
def test_long_file_names(tmp_path: Path, length: int, fits: bool) -> None:
    settings = own(tmp_path / "own")
    name = "x" * (length - 4) + ".png"
    file = tmp_path / "own/annotations/instances_train2020.json"
    file.write_text(json.dumps(content(annotation(1))).replace("bild_\\u00e41.png", name))
    if not fits:
        with pytest.raises(WrongFile, match=r"image 1 \(xxx.* is not in .*train2020"):
            prepare(settings, TWO, tmp_path / "set")
        return
    folder = tmp_path / "own/train2020"
    (folder / "bild_ä1.png").rename(folder / name)
    prepare(settings, TWO, tmp_path / "set")
    index = read_index(tmp_path / "set")
    labels = dict(zip((p.name for p in index.paths("train")), index.labels("train"), strict=True))
    assert labels["bild_ä2.png"].name == "bild_ä2.png.json"  # as ever
    assert (labels[name].name == f"{name}.json") == (length == 250)
    assert [one.name for one in read_objects(labels[name], TWO.classes, (8, 6))] == ["cat"]


def test_file_names_stay_in_their_folder(tmp_path: Path) -> None:
    settings = own(tmp_path / "own")
    file = tmp_path / "own/annotations/instances_train2020.json"
    file.write_text(json.dumps(content(annotation(1))).replace("bild_\\u00e41", "../val2020/x"))
    with pytest.raises(WrongFile, match="leaves its folder"):
        prepare(settings, TWO, tmp_path / "set")


def test_the_demo_worlds_archives(demo: Callable[..., Any], tmp_path: Path) -> None:
    settings, classes = demo("demo-coco2017")
    prepare(settings, classes, tmp_path / "set")
    index = read_index(tmp_path / "set")
    assert [len(index.paths(split)) for split in ("train", "test")] == [5, 3]
    with zipfile.ZipFile(settings.archives[2].urls[0].removeprefix("file://")) as archive:
        file = json.loads(archive.read("annotations/instances_train2017.json"))
    kept = [one for path in index.labels("train") for one in read_objects(path, classes.classes)]
    assert len(kept) == len(file["annotations"])
    for one in kept:
        x0, y0, x1, y1 = (int(side) for side in one.box)
        mask = decoded(one.mask, (48, 128))[:, :] if one.crowd else None
        assert mask is None or mask[y0:y1, x0:x1].sum() == mask.sum() == one.area

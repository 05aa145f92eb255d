from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from cp2.data.labels import (
    IGNORE,
    LabelTable,
    ade20k_table,
    camvid_table,
    cityscapes_table,
    decode_label,
    num_train_ids,
    plain_table,
    read_label,
    to_train_ids,
)
from cp2.errors import WrongFile

HERE = Path("label.png")

# Cityscapes' labelIds 0..33 by name
CITYSCAPES_NAMES = [
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic",
    "ground", "road", "sidewalk", "parking", "rail track", "building", "wall", "fence",
    "guard rail", "bridge", "tunnel", "pole", "polegroup", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "caravan",
    "trailer", "train", "motorcycle", "bicycle",
]  # fmt: skip


def convert(values: list[int], table: LabelTable) -> list[int]:
    raw = np.array([values], np.uint8)
    return to_train_ids(raw, table, HERE)[0].tolist()  # type: ignore[no-any-return]


def test_cityscapes_ids_follow_the_class_list_by_name(classes) -> None:  # type: ignore[no-untyped-def]
    names = classes("cityscapes").classes
    expected = [names.index(n) if n in names else IGNORE for n in CITYSCAPES_NAMES]
    assert convert([*range(34), 255], cityscapes_table()) == [*expected, IGNORE]
    assert num_train_ids(cityscapes_table()) == 19


def test_ade20k_reduces_zero_label() -> None:
    expected = [IGNORE if value == 0 else value - 1 for value in range(151)]
    assert convert(list(range(151)), ade20k_table()) == expected
    assert num_train_ids(ade20k_table()) == 150


def test_camvid_ignores_void() -> None:
    assert convert(list(range(12)), camvid_table()) == [*range(11), IGNORE]
    assert num_train_ids(camvid_table()) == 11


@pytest.mark.parametrize("classes", [1, 21, 255])
def test_plain_ids_stay(classes: int) -> None:
    values = [*range(classes), IGNORE]
    assert convert(values, plain_table(classes)) == values
    assert num_train_ids(plain_table(classes)) == classes


@pytest.mark.parametrize(
    ("table", "value", "allowed"),
    [
        (plain_table(21), 21, "0..20, 255"),
        (ade20k_table(), 151, "0..150"),
        (ade20k_table(), 255, "0..150"),
        (cityscapes_table(), 34, "0..33, 255"),
        (camvid_table(), 12, "0..11, 255"),
        (plain_table(1), 1, "0, 255"),
    ],
)
def test_value_out_of_range_names_file_value_and_range(
    table: LabelTable, value: int, allowed: str
) -> None:
    raw = np.zeros((3, 4), np.uint8)
    raw[1, 2:] = value
    with pytest.raises(WrongFile) as caught:
        to_train_ids(raw, table, HERE)
    assert str(caught.value) == (
        f"label label.png holds the value {value} in 2 pixels; allowed are {allowed}"
    )


def test_palette_picture_gives_its_index(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 20], [255, 15, 3]], np.uint8)
    picture = Image.frombytes("P", (3, 2), ids.tobytes())
    picture.putpalette(list(range(256)) * 3)
    picture.save(tmp_path / "label.png")
    assert read_label(tmp_path / "label.png").tolist() == ids.tolist()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "I;16"])
def test_other_modes_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "label.png")
    with pytest.raises(WrongFile, match=f"has mode {mode}; allowed is one 8-bit channel"):
        read_label(tmp_path / "label.png")


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_unreadable_label(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "label.png").write_bytes(content)
    with pytest.raises(WrongFile, match="cannot be read"):
        read_label(tmp_path / "label.png")


def test_truncated_label(tmp_path: Path) -> None:
    path = tmp_path / "label.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WrongFile, match="cannot be read"):
        read_label(path)


def test_sbd_mat(tmp_path: Path) -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    scipy.io.savemat(tmp_path / "x.mat", {"GTcls": {"Segmentation": ids, "Boundaries": 0}})
    assert read_label(tmp_path / "x.mat").tolist() == ids.tolist()


@pytest.mark.parametrize("content", [{"other": 1}, {"GTcls": {"other": 1}}, {"GTcls": 3}, None])
def test_wrong_mat(tmp_path: Path, content: dict[str, object] | None) -> None:
    path = tmp_path / "x.mat"
    if content is None:
        path.write_bytes(b"not a mat file")
    else:
        scipy.io.savemat(path, content)
    with pytest.raises(WrongFile, match="not a label file of SBD"):
        read_label(path)


def test_decode_label_is_a_uint8_tensor(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    Image.fromarray(ids).save(tmp_path / "label.png")
    label = decode_label(tmp_path / "label.png")
    assert label.dtype == torch.uint8
    assert label.tolist() == ids.tolist()

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch
from PIL import Image

from cp2.data import sbd
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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_other_modes_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 3)).save(tmp_path / "label.png")
    with pytest.raises(WrongFile, match=f"has mode {mode} .*; allowed is one 8-bit channel"):
        read_label(tmp_path / "label.png")


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_unreadable_label(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "label.png").write_bytes(content)
    with pytest.raises(WrongFile, match=r"label\.png: is .* readable label"):
        read_label(tmp_path / "label.png")


def test_truncated_label(tmp_path: Path) -> None:
    path = tmp_path / "label.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WrongFile, match=r"label\.png: is not a readable label"):
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
    with pytest.raises(WrongFile, match="is not a label file of SBD"):
        read_label(path)


def test_decode_label_is_a_uint8_tensor(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    Image.fromarray(ids).save(tmp_path / "label.png")
    label = decode_label(tmp_path / "label.png")
    assert label.dtype == torch.uint8
    assert label.tolist() == ids.tolist()


def _png(path: Path, ids: np.ndarray, bits: int, text: bytes = b"") -> None:
    """A grey PNG of 1, 2, 4 or 8 bits, by hand: Pillow writes no 2 and 4 bits of grey."""
    height, width = ids.shape
    unpacked = (ids[:, :, None] >> np.arange(bits)[::-1] & 1).reshape(height, -1).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(unpacked, axis=1))
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    chunks = (
        [(b"IHDR", head), (b"zTXt", b"a\0\0" + zlib.compress(text))] if text else [(b"IHDR", head)]
    )
    for kind, content in [*chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]:
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    path.write_bytes(data)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_of_few_bits_is_not_scaled(tmp_path: Path, bits: int) -> None:
    ids = np.random.default_rng(bits).integers(0, 2**bits, (5, 13))
    _png(tmp_path / "label.png", ids, bits)
    assert read_label(tmp_path / "label.png").tolist() == ids.tolist()


@pytest.mark.parametrize("suffix", ["tif", "bmp", "gif"])
@pytest.mark.parametrize("palette", [False, True])
def test_other_formats_keep_ids(tmp_path: Path, suffix: str, palette: bool) -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(ids)
    if palette:
        picture = Image.frombytes("P", (4, 3), ids.tobytes())
        picture.putpalette(list(range(255, -1, -1)) * 3)
    picture.save(tmp_path / f"label.{suffix}")
    assert read_label(tmp_path / f"label.{suffix}").tolist() == ids.tolist()


@pytest.mark.parametrize("kind", ["jpeg", "ppm", "webp"])
def test_formats_that_change_ids_are_refused(tmp_path: Path, kind: str) -> None:
    Image.new("L", (4, 3)).save(tmp_path / "label.png", kind)
    with pytest.raises(WrongFile, match=r"not a readable label .PNG, TIFF, BMP, GIF.* 8-bit PNG"):
        read_label(tmp_path / "label.png")


def test_limits_of_pillow_name_the_file(tmp_path: Path) -> None:
    ids = np.zeros((3, 4), int)
    _png(tmp_path / "long.png", ids, 8, text=b"x" * (2 << 20))
    with pytest.raises(WrongFile, match=r"long\.png: .*MAX_TEXT_CHUNK"):
        read_label(tmp_path / "long.png")
    Image.new("1", (20000, 10000)).save(tmp_path / "large.png")
    with pytest.raises(WrongFile, match=r"large\.png: .*exceeds limit"):
        read_label(tmp_path / "large.png")


# ---- SBD's .mat, beside scipy ----


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i4", "f8", ">f8"])
def test_sbd_reader_is_scipys(tmp_path: Path, compressed: bool, dtype: str) -> None:
    ids = np.random.default_rng(0).integers(0, 21, (7, 5)).astype(dtype)
    boundaries = np.empty((20, 1), object)
    boundaries[:] = [[scipy.sparse.csc_matrix(np.eye(3))]] * 20
    content = {"Boundaries": boundaries, "Segmentation": ids, "CategoriesPresent": [1.0, 2.0]}
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"before": 1, "GTcls": content}, do_compression=compressed)
    expected = scipy.io.loadmat(path)["GTcls"]["Segmentation"][0, 0]
    assert read_label(path).tolist() == expected.tolist() == ids.tolist()


def test_sbd_values_that_are_no_ids(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"GTcls": {"Segmentation": np.array([[0.5, 256.0]])}})
    with pytest.raises(WrongFile, match=r"values outside 0\.\.255"):
        read_label(tmp_path / "x.mat")


@pytest.mark.parametrize("count", [1, 4])
def test_sbd_variables_that_unpack_to_too_much(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sbd, "_name", lambda *_: b"before")
    matrix = struct.pack("<II", 14, sbd.MOST_BYTES // count) + bytes(sbd.MOST_BYTES // count)
    packed = zlib.compress(matrix)
    variable = struct.pack("<II", 15, len(packed)) + packed
    (tmp_path / "x.mat").write_bytes(b"\0" * 124 + b"\x00\x01IM" + variable * count)
    with pytest.raises(WrongFile, match="unpack to more than"):
        read_label(tmp_path / "x.mat")


def test_sbd_file_of_endless_elements(tmp_path: Path) -> None:
    head = b"\0" * 124 + b"\x00\x01IM"
    empty = struct.pack("<IIII", 6, 0, 5, 0) + struct.pack("<II", 1, 5) + b"GTcls".ljust(8, b"\0")
    matrix = empty + struct.pack("<II", 5, 4) + b"\1" + bytes(7 + 8000)
    whole = head + struct.pack("<II", 14, len(matrix)) + matrix
    for content in (head + bytes(9000), whole):
        (tmp_path / "x.mat").write_bytes(content)
        with pytest.raises(WrongFile, match="1000 elements in a row"):
            read_label(tmp_path / "x.mat")


def test_damaged_sbd_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"GTcls": {"Segmentation": np.eye(9)}})
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole[: rng.integers(len(whole)) + 1])
        for at in rng.integers(0, len(data), 3):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        with suppress(WrongFile):
            assert read_label(path).dtype == np.uint8

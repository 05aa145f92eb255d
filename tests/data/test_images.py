import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from cp2.data.images import JPEG_END, decode_rgb
from cp2.data.sources import ImageFiles
from cp2.errors import WrongFile


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, size=(6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((61, 47), Image.Resampling.BICUBIC)


def assert_as_pil(path):
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    got = decode_rgb(path)
    assert got.dtype == torch.uint8
    assert got.shape == (3, *expected.shape[:2])
    assert np.array_equal(got.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_modes(tmp_path, picture, mode):
    picture.convert(mode).save(tmp_path / "image.jpg", quality=85)
    assert_as_pil(tmp_path / "image.jpg")


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"quality": 5}])
def test_jpeg_kinds(tmp_path, picture, options):
    picture.save(tmp_path / "image.JPEG", **options)
    assert_as_pil(tmp_path / "image.JPEG")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])  # the content decides, not the name
def test_png_modes(tmp_path, picture, mode, suffix):
    picture.convert(mode).save(tmp_path / f"image.{suffix}", format="png")
    assert_as_pil(tmp_path / f"image.{suffix}")


def test_palette_with_transparency(tmp_path, picture):
    path = tmp_path / "image.png"
    picture.convert("P").save(path, transparency=bytes([0, 128, 255]))
    got = decode_rgb(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(Image.open(path).convert("RGB"))
    assert np.array_equal(got.permute(1, 2, 0).numpy(), expected)


def test_sixteen_bit_grey_is_scaled(tmp_path):
    values = np.array([[0, 257], [256, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "image.png")
    assert decode_rgb(tmp_path / "image.png")[0].tolist() == [[0, 1], [0, 255]]


def test_exif_rotation_is_not_applied(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "image.jpg", exif=exif)
    assert decode_rgb(tmp_path / "image.jpg").shape == (3, 47, 61)
    assert_as_pil(tmp_path / "image.jpg")


def jpeg_bytes(picture):
    data = io.BytesIO()
    picture.save(data, "jpeg")
    return data.getvalue()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.98])
def test_truncated_files(tmp_path, picture, share):
    path = tmp_path / "cut.jpg"
    data = jpeg_bytes(picture)
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        WrongFile, match=r"cut\.jpg: is (not|empty).* readable image.* replace the file"
    ):
        decode_rgb(path)


def test_truncated_png(tmp_path, picture):
    path = tmp_path / "cut.png"
    picture.save(path)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(WrongFile, match="is not a readable image"):
        decode_rgb(path)


def test_trailing_bytes_do_no_harm(tmp_path, picture):
    path = tmp_path / "image.jpg"
    path.write_bytes(jpeg_bytes(picture) + b"\0" * 5000)
    assert_as_pil(path)


def test_missing_file(tmp_path):
    with pytest.raises(WrongFile, match="is not there; the data set's index names it"):
        decode_rgb(tmp_path / "gone.jpg")


def test_damage_before_an_end_marker_passes(tmp_path, picture):
    """libjpeg fills what is missing and warns; docs/speed.md says so."""
    path = tmp_path / "filled.jpg"
    data = jpeg_bytes(picture)
    path.write_bytes(data[: int(0.8 * len(data))] + JPEG_END)
    assert decode_rgb(path).shape == (3, picture.height, picture.width)


def _big_png() -> bytes:
    head = struct.pack(">IIBBBBB", 20000, 10000, 8, 2, 0, 0, 0)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + b"\0" * 4  # noqa: E731
    body = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"")
    return body.replace(head + b"\0" * 4, head + struct.pack(">I", zlib.crc32(b"IHDR" + head)))


def _big_jpeg() -> bytes:
    """A whole file whose frame header says 60000 x 60000."""
    data = bytearray(jpeg_bytes(Image.new("RGB", (8, 8))))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60000, 60000)
    return bytes(data)


def _small_in_a_comment() -> bytes:
    """The same behind a marker without length (TEM): who reads one lands in a false header."""
    false = b"\xff\xc0\x00\x0b\x08\x00\x10\x00\x10"
    segment = b"\xff\xe0\xff\xff" + (b"\0" * 65500 + false).ljust(65533, b"\0")
    return b"\xff\xd8\xff\x01" + segment + _big_jpeg()[2:]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_big_png(), "exceeds limit"),
        (_big_jpeg(), "exceeds limit"),
        (_small_in_a_comment(), "its format is none of JPEG"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
            "its format is none of JPEG, PNG",
        ),
    ],
)
def test_bombs_and_programs_are_refused_before_they_start(tmp_path, content, reason):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(WrongFile, match=reason):
        decode_rgb(path)
    with pytest.raises(WrongFile, match=reason):
        ImageFiles([path], header_first=True).open(0)


@pytest.mark.parametrize(
    ("values", "suffix", "reason"),
    [
        (np.float32([[0.2, 0.9]]), "tif", "mode F, floats, has no one meaning in 8 bits"),
        (np.int32([[0, 255]]), "tif", "mode I, 32-bit or signed, has no one meaning"),
        (np.uint16([[0, 255]]), "png", "its brightest value would be 0 of 255"),
        (np.uint16([[0, 4095]]), "tif", "its brightest value would be 15 of 255"),
    ],
)
def test_pixels_without_one_meaning_in_eight_bits(tmp_path, values, suffix, reason):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(values).save(path)
    with pytest.raises(WrongFile, match=reason):
        decode_rgb(path)


@pytest.mark.parametrize(("low", "fits"), [(0, False), (0x4000, True)])
def test_sixteen_bit_colours_that_were_not_scaled(tmp_path, low, fits):
    values = np.arange(24).reshape(2, 4, 3) + low
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    (tmp_path / "image.png").write_bytes(data)
    if fits:
        assert decode_rgb(tmp_path / "image.png").unique().tolist() == [0x40]
        return
    with pytest.raises(WrongFile, match="was not scaled to 16 bits"):
        decode_rgb(tmp_path / "image.png")


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_image_is_turned_where_its_label_says_so(tmp_path, picture, value, suffix):
    exif = Image.Exif()
    exif[0x0112] = value
    path = tmp_path / f"image.{suffix}"
    picture.save(path, exif=exif)
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB"))
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(decode_rgb(path).permute(1, 2, 0).numpy(), stored)
    same = decode_rgb(path, like=stored.shape[:2])
    assert np.array_equal(same.permute(1, 2, 0).numpy(), stored)
    turned = decode_rgb(path, like=stored.shape[1::-1]).permute(1, 2, 0).numpy()
    assert np.array_equal(turned, upright if value >= 5 and suffix != "tif" else stored)


def test_nothing_is_opened_as_any_format_that_pillow_knows():
    root = Path(__file__).parents[2]
    for file in (*(root / "cp2").rglob("*.py"), *(root / "benchmarks").rglob("*.py")):
        for line in file.read_text().splitlines():
            assert "Image.open(" not in line or "formats=" in line, f"{file}: {line}"

"""Images that are read in their archives: as if unpacked, or a message."""

import gzip
import io
import os
import stat
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cp2.augment.pipeline import batches
from cp2.augment.samples import PretrainDataset
from cp2.data.images import decode_rgb
from cp2.data.index import DatasetIndex, read_index
from cp2.data.members import images_below, images_in, read_bytes
from cp2.data.preparers.registry import prepare
from cp2.data.sources import ImageFiles
from cp2.data.walk import LeftOut
from cp2.errors import UserError, WrongFile
from cp2.plan.build import build_plan
from cp2.settings.base import hashed_fields
from cp2.settings.datasets import ClassList, DatasetSettings
from cp2.settings.load import load_campaign

Demo = Callable[..., tuple[DatasetSettings, ClassList | None]]
NAMES = ["b/2.JPG", "b/10.png", "a.jpg", f"{'deep/' * 30}long.jpg"]


def picture(seed: int, suffix: str = ".jpg") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12 + seed, 16, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG" if suffix == ".png" else "JPEG")
    return content.getvalue()


CONFIGS = Path(__file__).parents[2] / "configs"
MOCO = load_campaign("demo", (), CONFIGS).method("moco-v2")
FILES = {name: picture(i, Path(name).suffix) for i, name in enumerate(NAMES)}


def write_tar(path: Path, files: dict[str, bytes], format: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def own(root: Path) -> DatasetSettings:
    return DatasetSettings(kind="images", name="own", title="Own", root=str(root))


def made(settings: DatasetSettings, folder: Path) -> DatasetIndex:
    prepare(settings, None, folder)
    return read_index(folder)


@pytest.mark.parametrize(
    "write",
    [
        write_tar,
        lambda path, files: write_tar(path, files, tarfile.PAX_FORMAT),
        lambda path, files: write_zip(path.with_suffix(".zip"), files),
    ],
)
def test_content_and_order_are_those_of_unpacked_files(
    tmp_path: Path, write: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    names = sorted(NAMES, key=Path)
    paths = images_in(write(tmp_path / "x.tar", FILES), LeftOut())
    assert [read_bytes(path) for path in paths] == [FILES[name] for name in names]
    assert all(f"{path}".endswith(f"/{name}") for path, name in zip(paths, names, strict=True))


def test_an_inner_tar_is_a_folder_of_its_name_without_the_suffix(tmp_path: Path) -> None:
    inner = write_tar(tmp_path / "inner.tar", {"a.jpg": picture(1)}).read_bytes()
    paths = images_in(
        write_tar(tmp_path / "x.tar", {"n01.tar": inner, "b/N02.TAR": inner}), LeftOut()
    )
    names = [path.relative_to(tmp_path / "x.tar").parts[1:] for path in paths]
    assert names == [("b", "N02", "a.jpg"), ("n01", "a.jpg")]


def same_set(settings: DatasetSettings, folder: Path) -> None:
    packed = settings.model_copy(update={"unpack": False})
    assert hashed_fields(packed) == hashed_fields(settings)
    unpacked, inside = made(settings, folder / "a"), made(packed, folder / "b")
    pairs = list(zip(unpacked.paths("train"), inside.paths("train"), strict=True))
    assert len(pairs) >= 5
    for one, other in pairs:
        assert one.name == other.name
        assert one.read_bytes() == read_bytes(other)
        assert torch.equal(decode_rgb(one), decode_rgb(other))
    assert len([*(inside.folder / "files").rglob("*")]) == len(settings.archives)


def test_imagenet_is_the_same_set(demo: Demo, tmp_path: Path) -> None:
    same_set(demo("demo-imagenet")[0], tmp_path)


def test_coco_is_the_same_set(tmp_path: Path) -> None:
    archives = []
    for name in ("train2017", "unlabeled2017"):
        files = {f"{name}/{i:03d}.jpg": picture(i) for i in (2, 0, 1)}
        path = write_zip(tmp_path / f"{name}.zip", {**files, "readme.jpg": picture(5)})
        archives.append({"file": path.name, "urls": (path.as_uri(),)})
    text = {"name": "c", "title": "C", "kind": "coco", "archives": tuple(archives)}
    same_set(DatasetSettings.model_validate(text), tmp_path)


def test_changing_one_s_mind_prepares_again(demo: Demo, tmp_path: Path) -> None:
    settings, _ = demo("demo-imagenet")
    made(settings, tmp_path)
    index = made(settings.model_copy(update={"unpack": False}), tmp_path)
    assert not (tmp_path / "files" / "train").exists()
    assert ".tar/" in str(index.paths("train")[0])


def test_a_run_is_the_same_with_and_without_unpacking() -> None:
    def ids(*changes: str) -> set[str]:

        plan = build_plan(load_campaign("paper", changes, CONFIGS))
        return {run.id for run in plan.runs.values()}

    assert ids("datasets.imagenet.unpack=false") == ids()


def test_shards_in_an_own_folder(tmp_path: Path) -> None:
    root = tmp_path / "shards"
    root.mkdir()
    for shard in range(2):
        samples = {f"{shard}{i}.{end}": picture(i) for i in range(3) for end in ("jpg", "cls")}
        write_tar(root / f"{shard}.tar", samples)
    (root / "loose.jpg").write_bytes(picture(7))
    index = made(own(root), tmp_path / "set")
    assert [path.name for path in index.paths("train")] == [
        *(f"{shard}{i}.jpg" for shard in range(2) for i in range(3)),
        "loose.jpg",
    ]
    assert index.record.left_out == {"suffix .cls": 6}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_files(tmp_path: Path, workers: int) -> None:
    for name, content in FILES.items():
        path = tmp_path / "unpacked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    files = images_below(tmp_path / "unpacked", LeftOut())
    packed = images_in(write_tar(tmp_path / "x.tar", FILES), LeftOut())

    def crops(paths: list[Path]) -> list[torch.Tensor]:
        dataset = PretrainDataset(paths, MOCO, 3)
        return [batch.crops for batch in batches(dataset, 0, 0, 2, workers, pin=False)]

    for one, other in zip(crops(files), crops(packed), strict=True):
        assert torch.equal(one, other)


def test_headers_are_read_in_archives(tmp_path: Path) -> None:
    paths = images_in(write_tar(tmp_path / "x.tar", FILES), LeftOut())
    image = ImageFiles(paths, scaled=True).open(0)
    assert (image.height, image.width) == decode_rgb(paths[0]).shape[1:]


def test_a_damaged_image_is_named_with_its_archive(tmp_path: Path) -> None:
    files = {**FILES, "bad.jpg": b"\xff\xd8\xff no photograph"}
    root = tmp_path / "root"
    root.mkdir()
    write_tar(root / "x.tar", files)
    index = made(own(root), tmp_path / "set")
    assert index.record.splits["train"].images == len(FILES)
    assert index.record.left_out == {"unreadable": 1}
    bad = next(p for p in images_in(root / "x.tar", LeftOut()) if p.name == "bad.jpg")
    with pytest.raises(WrongFile, match=r"x\.tar/.*bad\.jpg: is not a readable image"):
        decode_rgb(bad)


def same_sizes(path: Path, files: dict[str, bytes]) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(files["a.jpg"]) + 100
    content[at] ^= 1
    path.write_bytes(content)


def shortened(path: Path, files: dict[str, bytes]) -> None:
    time = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes()[:600])
    os.utime(path, ns=(time, time))


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize("spoil", [same_sizes, shortened])
def test_an_archive_that_changed_stops_the_run(
    tmp_path: Path,
    write: Callable[[Path, dict[str, bytes]], Path],
    spoil: Callable[[Path, dict[str, bytes]], None],
) -> None:
    """No WrongFile, as a damaged image is: those are replaced by others."""
    archive = write(tmp_path / f"x{'.zip' if write is write_zip else '.tar'}", FILES)
    paths = images_in(archive, LeftOut())
    dataset = PretrainDataset(paths, MOCO, 0)
    spoil(archive, FILES)
    with pytest.raises(UserError, match="has changed since the data set was prepared") as caught:
        list(batches(dataset, 0, 0, 2, 1, pin=False))
    assert type(caught.value) is UserError
    archive.unlink()
    with pytest.raises(UserError, match=r"which holds long\.jpg, is not there; put it back"):
        decode_rgb(paths[-1])


def test_the_folder_of_a_data_set_whose_archive_changed_is_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    archive = write_tar(root / "x.tar", FILES)
    index = made(own(root), tmp_path / "set")
    names = index.paths("train")
    os.utime(archive, ns=(1, 1))
    with pytest.raises(UserError) as caught:
        index.paths("train")
    assert str(caught.value) == (
        f"{archive} has changed since data set own was prepared from it; "
        f"delete {tmp_path / 'set'} to have it prepared again"
    )
    assert index.names("train") == names, "a cache needs no more than these"
    archive.unlink()
    assert index.paths("train") == names, "what is not there is told as it is read"


def test_archives_that_cannot_be_read_in_place(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "whole.tar", FILES).read_bytes()

    def refused(name: str, content: bytes, text: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WrongFile, match=text):
            images_in(tmp_path / name, LeftOut())

    refused("packed.tar", gzip.compress(whole), "whole archive without compression")
    refused("empty.tar", b"", "is empty")
    refused("none.tar", b"no tar at all" * 100, "whole archive without compression")
    refused("in a file.tar", whole[:700], "cut off")
    members = images_in(tmp_path / "whole.tar", LeftOut())
    last = max(int(part.split("+")[0]) for path in members for part in path.parts if "+" in part)
    refused("between files.tar", whole[: last - 512], "empty header")
    deflated = write_zip(tmp_path / "d.zip", FILES, zipfile.ZIP_DEFLATED)
    refused("deflated.zip", deflated.read_bytes(), "is compressed or encrypted")
    refused("joined.tar", whole + whole, "joined by cat")


@pytest.mark.parametrize("inner", [False, True])
def test_a_header_that_claims_more_than_any_takes_no_memory(tmp_path: Path, inner: bool) -> None:
    """Of 200 MB, which the file has: a hole that takes nothing of the disk."""
    header, claimed = tarfile.TarInfo("pax"), 200 << 20
    header.type, header.size = tarfile.XHDTYPE, claimed
    outer = tarfile.TarInfo("inner.tar")
    outer.size = claimed + 3 * tarfile.BLOCKSIZE
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        file.write(inner * outer.tobuf() + header.tobuf())
        file.truncate(file.tell() + claimed + (1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(WrongFile, match="than 100 times its size"):
            images_in(path, LeftOut())
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_what_is_no_plain_file_with_a_plain_name_is_left_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        entry = tarfile.TarInfo("link.jpg")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
        for name in ("../up.jpg", "/abs.jpg", "c:/drive.jpg"):
            archive.addfile(tarfile.TarInfo(name))
    left_out = LeftOut()
    assert images_in(tmp_path / "x.tar", left_out) == []
    assert list(left_out.counts.values()) == [1, 3]

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/passwd")
    left_out = LeftOut()
    assert images_in(tmp_path / "x.zip", left_out) == []
    assert sum(left_out.counts.values()) == 1


def test_a_sparse_file_is_left_out(tmp_path: Path) -> None:
    with (tmp_path / "hole.jpg").open("wb") as file:
        file.truncate(1 << 24)
    (tmp_path / "a.jpg").write_bytes(picture(1))
    words = ["tar", "-S", "-C", tmp_path, "-cf", tmp_path / "x.tar", "hole.jpg", "a.jpg"]
    subprocess.run(words, check=True)
    left_out = LeftOut()
    assert [path.name for path in images_in(tmp_path / "x.tar", left_out)] == ["a.jpg"]
    assert sum(left_out.counts.values()) == 1


def test_long_and_foreign_names_in_a_zip(tmp_path: Path) -> None:
    files = {f"{'x' * 490}.jpg": picture(1), "Fotos/\xfc bild.jpg": picture(2)}
    path = write_zip(tmp_path / "x.zip", files)
    assert sorted(map(read_bytes, images_in(path, LeftOut()))) == sorted(files.values())


def test_only_what_unpacking_would_use(demo: Demo, tmp_path: Path) -> None:
    """Loose images beside ImageNet's inner tars; COCO's archives in another order."""
    inner = write_tar(tmp_path / "inner.tar", {"n01_1.JPEG": picture(1)}).read_bytes()
    files = {"n01.tar": inner, "readme.jpg": picture(2), "n02/n02_1.JPEG": picture(3)}
    outer = write_tar(tmp_path / "outer", files)
    archive = {"file": outer.name, "urls": (outer.as_uri(),)}
    text = {"name": "i", "title": "I", "kind": "imagenet", "archives": (archive,)}
    settings = DatasetSettings.model_validate(text | {"unpack": False})
    assert [p.name for p in made(settings, tmp_path / "i").paths("train")] == ["n01_1.JPEG"]

    parts = []
    for name in ("unlabeled2017", "train2017"):
        path = write_zip(tmp_path / f"{name}.zip", {f"{name}/{name}.jpg": picture(4)})
        parts.append({"file": path.name, "urls": (path.as_uri(),)})
    text = {"name": "c", "title": "C", "kind": "coco", "archives": tuple(parts)}
    settings = DatasetSettings.model_validate(text | {"unpack": False})
    names = [path.name for path in made(settings, tmp_path / "c").paths("train")]
    assert names == ["train2017.jpg", "unlabeled2017.jpg"]


@pytest.mark.parametrize("kind", ["camvid", "voc2012"])
def test_other_kinds_are_unpacked(kind: str) -> None:
    archive: dict[str, Any] = {"file": "a.tar", "urls": ()}
    with pytest.raises(
        ValueError, match=f"unpack: false is for kinds imagenet and coco, not for {kind}"
    ):
        DatasetSettings(
            kind=kind, name="x", title="X", classes="camvid", archives=(archive,), unpack=False
        )


def test_the_user_s_folder_without_images_in_its_tars(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write_tar(root / "x.tar", {"a.txt": b"text"})
    with pytest.raises(UserError, match="no image of it was found"):
        made(own(root), tmp_path / "set")

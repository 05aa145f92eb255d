"""Readers of files that others wrote, each with small whole files to start from.

A reader gives a value or raises a UserError that names the file, whatever the file holds.
"""

import io
import json
import pickle
import shutil
import struct
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from PIL import Image
from safetensors.torch import save

from cp2.data.annotations import read_objects
from cp2.data.images import decode_rgb
from cp2.data.index import DatasetRecord, Split, read_index, write_record
from cp2.data.labels import plain_table, read_label, to_train_ids
from cp2.data.preparers.coco_file import CocoFile
from cp2.data.preparers.common import read_lines
from cp2.data.unpack import unpack
from cp2.errors import UserError
from cp2.models.published import read_published
from cp2.plan.places import Places
from cp2.record.attempts import read_attempts
from cp2.record.files import read_json
from cp2.record.metrics import read_metrics_and_damage
from cp2.record.mlflow_links import read_links
from cp2.record.owner import read_owner
from cp2.record.readers import read_environment, read_recipe, read_scores, time_of
from cp2.record.tail import last_metrics, read_new_lines
from cp2.settings.load import load_campaign
from cp2.settings.metrics import Metric
from cp2.settings.yaml_files import assignment, read_mapping
from cp2.tracking.snapshot import read_content, take_snapshot

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "models"), str(TESTS / "tracking")]

from foreign import CHECKSUM, bundle, byol_pickle, haiku_trees, numpy_file, table_block, varint  # noqa: E402
from imported import Campaign, folders  # noqa: E402


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        name: of the file that is read; its suffix counts.
        seeds: contents of whole files.
        read: the reader.
        wrap: makes a file of a changed seed, where a checksum would stop every change at once.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], Any]
    wrap: Callable[[bytes], bytes] = bytes

    def check(self, folder: Path, content: bytes) -> None:
        """Read a file of this content; anything but a value or a message is an error."""
        path = folder / self.name
        path.write_bytes(self.wrap(content))
        try:
            self.read(path)
        except UserError as error:
            if "more memory than there is" in str(error):
                raise AssertionError(str(error)) from error


# ---- checkpoints ----

STATE = {"conv1.weight": torch.ones(2, 3), "encoder_q.bn.bias": torch.zeros(2, dtype=torch.int64)}
WEIGHTS = {"a": {"w": np.ones((2, 3), "f4"), "b": np.float32(1)}}


def _saved(zipped: bool) -> list[bytes]:
    file = io.BytesIO()
    torch.save({"state_dict": STATE, "epoch": 3}, file, _use_new_zipfile_serialization=zipped)
    return [file.getvalue()]


def _torch_pickles() -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(_saved(True)[0])) as archive:
        return [archive.read(n) for n in archive.namelist() if n.endswith("data.pkl")]


def _torch_zip(pickled: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        parts = {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}
        parts |= {"data/0": bytes(24), "data/1": bytes(16)}
        for name, content in parts.items():
            archive.writestr(f"a/{name}", content)
    return file.getvalue()


def _bundle_zip(block: bytes) -> bytes:
    """An archive with one block of an index."""
    table = block + b"\0" + CHECKSUM
    handle = table_block([(b"z", varint(0) + varint(len(block)))])
    at, size = len(table), len(handle) - 5
    table += handle
    footer = varint(at) + varint(size) + varint(at) + varint(size)
    table += footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model.ckpt-1.index", table)
        archive.writestr("model.ckpt-1.data-00000-of-00001", _bundle()[1])
    return file.getvalue()


@cache
def _bundle() -> tuple[bytes, bytes]:
    return bundle({"base_model/conv2d/kernel": np.ones((7, 7, 3, 2), "f4"), "b": np.ones(2, "i8")})


def _first_block() -> list[bytes]:
    """The only block of variables, with which the index begins."""
    return [_bundle()[0].partition(b"\0" + CHECKSUM)[0]]


def _published(layout: Any, prefix: str | None = None) -> Callable[[Path], Any]:
    return lambda path: read_published(path, layout, prefix)


def _trees() -> dict[str, Any]:
    params, state = haiku_trees()
    stem = "res_net50/~/initial_batchnorm"
    return {
        "params": {
            stem: params[stem],
            "res_net50/~/initial_conv": {"w": params["res_net50/~/initial_conv"]["w"][..., :1]},
        },
        "state": {name: value for name, value in state.items() if stem in name},
    }


def _pickles() -> list[bytes]:
    plain = [pickle.dumps(_trees(), protocol) for protocol in (2, 3, 4, 5)]
    return [*plain, byol_pickle(WEIGHTS, WEIGHTS)[:4000]]


# ---- images, labels, archives ----


def _pictures(*formats: str, mode: str = "RGB") -> list[bytes]:
    found = []
    for kind in formats:
        file = io.BytesIO()
        pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        Image.fromarray(pixels).convert(mode).save(file, kind)
        found.append(file.getvalue())
    return found


def _chunked(content: bytes) -> bytes:
    """PNG whose chunks' checksums are made right."""
    out, rest = content[:8], content[8:]
    while len(rest) >= 12:
        size = min(int.from_bytes(rest[:4], "big"), len(rest) - 12)
        chunk = rest[4 : 8 + size]
        out += rest[:4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        rest = rest[12 + size :]
    return out + rest


def _label(path: Path) -> None:
    to_train_ids(read_label(path), plain_table(3), path)


def _sbd() -> list[bytes]:
    found = []
    for compressed in (True, False):
        file = io.BytesIO()
        content = {"GTcls": {"Segmentation": np.ones((3, 4), np.uint8), "Boundaries": [1]}}
        scipy.io.savemat(file, content, do_compression=compressed)
        found.append(file.getvalue())
    return found


def _objects() -> list[bytes]:
    box = b"<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>9</xmax><ymax>4</ymax></bndbox>"
    one = b"<object><name>cat</name><difficult>1</difficult>" + box + b"</object>"
    head = b'<?xml version="1.0" encoding="utf-8"?><!DOCTYPE a [<!ENTITY c "cat">]>'
    found = b"<annotation>" + one + one.replace(b"cat", b"&c;") + b"</annotation>"
    return [head + found, b"<annotation>" + one + b"</annotation>"]


def _coco() -> list[bytes]:
    shape = {"image_id": 1, "category_id": 3, "bbox": [1, 1.5, 3, 2], "area": 6, "iscrowd": 0}
    polygon = {"segmentation": [[1, 1, 4.5, 1, 4, 3]]}
    runs = {"segmentation": {"counts": "Q1", "size": [9, 9]}}
    content = {
        "info": {},
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "annotations": [{"id": 1} | shape | polygon, {"id": 2} | shape | runs],
        "categories": [{"id": 3, "name": "cat"}],
    }
    return [json.dumps(content).encode()]


def _read_coco(path: Path) -> None:
    list(CocoFile(path, ("cat",), strict=True).objects())


def _lists() -> list[bytes]:
    return [b"split,image,label\ntrain,a.jpg,b.png\nval,/root/a.jpg,b c.png\n", b"a 1\r\nb\n"]


def _read_lists(path: Path) -> None:
    """As an index beside its record, and as a list of stems."""
    record = DatasetRecord(
        name="a",
        kind="labelled",
        title="",
        digest="",
        splits={split: Split(images=1) for split in ("train", "val")},
        classes=None,
        palette=None,
        archives=(),
        created="",
        root="/root",
    )
    write_record(path.parent, record)
    read_lines(path)
    read_index(path.parent)


def _archives() -> list[bytes]:
    found = []
    for mode in ("w:gz", "w", "w:xz"):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode) as tar:
            info = tarfile.TarInfo("a/b.txt")
            info.size = 5
            tar.addfile(info, io.BytesIO(b"hello"))
        found.append(file.getvalue())
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", "hello" * 10)
    return [*found, file.getvalue()]


def _unpack(path: Path) -> None:
    into = path.parent / "into"
    into.mkdir(exist_ok=True)
    try:
        unpack(path, into)
    finally:
        shutil.rmtree(into)


# ---- records and settings ----

STARTED = {
    "event": "started", "attempt": 1, "time": 5.0, "host": "h", "pid": 7, "job": None,
    "device": "cpu", "processes": 1,
}  # fmt: skip
ENDED = {"event": "ended", "attempt": 1, "time": 9.0, "outcome": "done", "step": 3, "error": None}
LINE = {"step": 1, "time": 5.0, "a": None, "b": 1.5}
SCORES = {"split": "val", "dataset": "x", "metrics": {"miou": 0.5}, "per_class": {"a": 0.5}}


def _lines(*lines: Any) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _records() -> list[bytes]:
    return [
        _lines({"recipe": {"a": [1]}, "tags": {"b": "c"}, "started": 5.0, "finished": 7}),
        _lines(SCORES),
        _lines({"job": None, "host": "h", "pid": 7, "token": "t"}),
        _lines({"ui": "http://x", "experiment": "1", "runs": {"a": "b"}, "store": "s"}),
    ]


def _read_records(path: Path) -> None:
    if path.name != "recipe.json":
        path.with_name("recipe.json").write_text('{"recipe": {}, "tags": {"run_id": "x"}}')
    for read in (
        read_json,
        read_recipe,
        read_environment,
        lambda path: time_of(path, read_environment(path), "finished"),
        lambda path: read_scores(path, [Metric("miou", "mIoU", "percent")], "x"),
        read_owner,
        lambda path: read_links(path.parent),
    ):
        _named(read, path)


def _named(read: Callable[[Path], Any], path: Path) -> None:
    """A message must name the file."""
    try:
        read(path)
    except UserError as error:
        if str(path) not in str(error):
            raise AssertionError(str(error)) from error


def _read_lines(path: Path) -> None:
    read_attempts(path.parent)
    read_metrics_and_damage(path)
    last_metrics(path)
    for line in read_new_lines(path).lines:
        read_new_lines(path, line.end)


def _campaign_files() -> list[bytes]:
    names = ("demo", "mini")
    return [(TESTS.parent / f"configs/{name}.yaml").read_bytes() for name in names]


def _read_campaign(path: Path) -> None:
    assignment(f"a.b={path.read_text(encoding='utf-8', errors='replace')}")
    read_mapping(path)
    load_campaign(str(path))


@cache
def _campaign() -> Campaign:
    root = Path(tempfile.mkdtemp(prefix="cp2-fuzz-"))
    campaign = Campaign(load_campaign("demo", folders(root)), "")
    run = _evaluation(campaign)
    campaign.write(run, range(3))
    campaign.attempt(run, 1, "done")
    campaign.finish(run, 0.5)
    return campaign


def _evaluation(campaign: Campaign) -> Any:
    return next(iter(campaign.plan.stage("evaluate")))


SPLIT = b"\n=====\n"
_SNAPSHOT = ("recipe.json", "environment.json", "done.json", "scores.json", "metrics.jsonl",
             "attempts.jsonl")  # fmt: skip


def _snapshot() -> list[bytes]:
    campaign = _campaign()
    folder = _evaluation(campaign).folder(campaign.results).path
    return [SPLIT.join((folder / name).read_bytes() for name in _SNAPSHOT)]


def _read_snapshot(path: Path) -> None:
    """All records of a run's folder are changed at once, as the import into MLflow reads them."""
    campaign = _campaign()
    run = _evaluation(campaign)
    whole = {n: (run.folder(campaign.results).path / n).read_bytes() for n in _SNAPSHOT}
    try:
        for name, content in zip(_SNAPSHOT, path.read_bytes().split(SPLIT), strict=False):
            (run.folder(campaign.results).path / name).write_bytes(content)
        places = Places(campaign.plan)
        read_content(take_snapshot(run, places, campaign.results, 9000.0, None), places)
    finally:
        for name, content in whole.items():
            (run.folder(campaign.results).path / name).write_bytes(content)


TARGETS = {
    "torch": Target("a.pth", lambda: _saved(True) + _saved(False), _published("moco")),
    "torch_pickle": Target("a.pth", _torch_pickles, _published("prefixed", "x."), _torch_zip),
    "safetensors": Target("a.safetensors", lambda: [save(STATE, {"a": "b"})], _published("own")),
    "pickle": Target("a.pkl", _pickles, _published("haiku-pickle")),
    "numpy": Target("a.npy", lambda: [numpy_file(_trees())], _published("haiku-numpy")),
    "bundle": Target(
        "a.zip", lambda: [_bundle_zip(block) for block in _first_block()], _published("simclr")
    ),
    "bundle_index": Target("a.zip", _first_block, _published("simclr"), _bundle_zip),
    "images": Target(
        "a.jpg",
        lambda: _pictures("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"),
        decode_rgb,
    ),
    "png": Target("a.png", lambda: _pictures("PNG", mode="P"), _label, _chunked),
    "labels": Target("a.png", lambda: _pictures("PNG", "GIF", "BMP", "TIFF", mode="P"), _label),
    "sbd": Target("a.mat", _sbd, read_label),
    "objects": Target("a.xml", _objects, lambda path: read_objects(path, ("cat",), (9, 9))),
    "coco": Target("a.json", _coco, _read_coco),
    "lists": Target("index.csv", _lists, _read_lists),
    "archives": Target("a.tar", _archives, _unpack),
    "records": Target("mlflow.json", _records, _read_records),
    "lines": Target(
        "attempts.jsonl",
        lambda: [_lines(STARTED, ENDED), _lines(LINE, LINE | {"step": 2})],
        _read_lines,
    ),
    "yaml": Target("campaign.yaml", _campaign_files, _read_campaign),
    "snapshot": Target("records", _snapshot, _read_snapshot),
}

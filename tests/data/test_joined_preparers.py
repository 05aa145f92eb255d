"""Preparers of other packages, and kinds that nobody or too many have."""

import sys
from pathlib import Path

import numpy as np
import pytest
from addons import write_addon
from campaigns import BASE, load
from PIL import Image

from cp2.data.preparers import prepare
from cp2.errors import UserError

FLAT = """
from pathlib import Path
from cp2.data.preparers.common import Job, Layout, Source

def prepare_flat(job: Job) -> Layout:
    images = job.images(Path(job.settings.root))
    return Layout([Source("train", image.stem, image) for image in images])
"""
KIND = "datasets.photos.kind=flat"


def _campaign(folder: Path, *assignments: str):
    photos = f"overrides: {{datasets: {{photos: {{kind: flat, title: flat, root: {folder}}}}}}}"
    return load(folder, f"{BASE}{photos}\n", *assignments)


@pytest.fixture
def addon(tmp_path, monkeypatch):
    def write(code: str, name: str = "my_data") -> None:
        entries = f"[cp2.datasets]\nflat = {name}.flat:prepare_flat\n"
        write_addon(tmp_path / name, {"flat": code}, entries, name)
        monkeypatch.syspath_prepend(tmp_path / name)

    yield write
    for module in [one for one in sys.modules if one.split(".")[0].startswith("my_data")]:
        del sys.modules[module]


def test_a_preparer_of_another_package(addon, tmp_path):
    addon(FLAT)
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        Image.fromarray(np.full((9, 9, 3), i, dtype=np.uint8)).save(photos / f"{i}.png")
    settings = _campaign(photos).dataset("photos")
    assert settings.model_dump(mode="json")["kind"] == "flat"
    record = prepare(settings, None, tmp_path / "set")
    assert record.splits["train"].images == 3


def test_a_kind_of_nobody(tmp_path):
    with pytest.raises(UserError, match=r"kind = 'flat': allowed: .*voc2012"):
        _campaign(tmp_path)


def test_a_package_that_is_broken(addon, tmp_path):
    addon("import nothing_of_this_name")
    with pytest.raises(UserError, match=r"flat of package my_data, .* No mod"):
        _campaign(tmp_path)


def test_two_packages_with_one_kind(addon, tmp_path):
    addon(FLAT)
    addon(FLAT, "my_data_again")
    with pytest.raises(UserError, match=r"'flat' is offered by 2 packages \(my_data"):
        _campaign(tmp_path)


def test_a_method_that_is_no_settings_class(tmp_path, monkeypatch):
    entries = "[cp2.methods]\nflat = json:dumps\n"
    write_addon(tmp_path / "package", {}, entries, "my_data")
    monkeypatch.syspath_prepend(tmp_path / "package")
    with pytest.raises(UserError, match=r"must be a class that derives from cp2\.settings\.contr"):
        load(tmp_path, BASE, "methods.moco-v2.kind=flat")

"""Kind folders: a folder for each class, as torchvision's ImageFolder reads it."""

from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError
from torchvision.datasets import ImageFolder

from cp2.data.index import read_index
from cp2.data.preparers.registry import prepare
from cp2.errors import UserError
from cp2.settings.datasets import DatasetSettings

NAMES = ("train/cat/a.png", "train/cat/deep/b.png", "train/dog/c.png", "val/dog/a.png")


def make(root: Path, *names: str) -> DatasetSettings:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(root / name)
    return DatasetSettings(kind="folders", name="own", title="", root=str(root))


def test_classes_are_those_of_torchvision(tmp_path: Path) -> None:
    settings = make(tmp_path / "own", *NAMES)
    record = prepare(settings, None, tmp_path / "set")
    index = read_index(tmp_path / "set")
    assert record.splits["train"].images == 3
    theirs = ImageFolder(str(tmp_path / "own/train"))
    assert list(record.classes or ()) == theirs.classes == ["cat", "dog"]
    ours = zip(map(str, index.paths("train")), index.image_classes("train"), strict=True)
    assert sorted(ours) == sorted(theirs.samples)
    assert index.image_classes("val") == [1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train/cat/a.png", "train/dog/a.png"), r"own/val is missing; kind folders needs"),
        ((*NAMES, "val/fox/a.png"), "val has classes that train has not: fox"),
        ((*NAMES, "train/a.png"), r"train/a.png lies in no class's folder"),
        (("train/cat/a.png", "val/cat/a.png"), "1 folders with images, which are the classes"),
        (("train/cat/a.png", "train/dog/a.png", "val/cat/note.gif"), None),
    ],
)
def test_bad_folders_say_what_is_wrong(
    tmp_path: Path, names: tuple[str, ...], message: str | None
) -> None:
    settings = make(tmp_path / "own", *names)
    if message is None:
        assert prepare(settings, None, tmp_path / "set").splits["val"].images == 1
        return
    with pytest.raises(UserError, match=message):
        prepare(settings, None, tmp_path / "set")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    settings = make(tmp_path / "own", *NAMES[:3])
    (tmp_path / "own" / "val" / "dog").mkdir(parents=True)
    with pytest.raises(UserError, match="split val is empty"):
        prepare(settings, None, tmp_path / "set")


def test_a_class_list_is_refused() -> None:
    with pytest.raises(ValidationError, match="the folders' names are the classes"):
        DatasetSettings(kind="folders", name="own", title="", root="/x", classes="voc2012")

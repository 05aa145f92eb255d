from pathlib import Path

import pytest
from data_settings import CONFIGS, read_yaml

from cp2.data.preparers import PREPARERS
from cp2.data.world.write import FILES
from cp2.settings.datasets import DatasetSettings

ALL = sorted((CONFIGS / "datasets").glob("*.yaml"))
OFFICIAL = [path for path in ALL if not path.stem.startswith("demo-")]

# images a split, as the papers and the data sets' pages state them
COUNTS = {
    "voc2012": {"train": 10582, "val": 1449},
    "voc2007": {"train": 5011, "test": 4952},
    "voc0712": {"train": 16551, "test": 4952},
    "voc2012-train": {"train": 1464, "val": 1449},
    "cityscapes": {"train": 2975, "val": 500},
    "ade20k": {"train": 20210, "val": 2000},
    "imagenet": {"train": 1281167},
    "coco2017": {"train": 118287},
    "coco2017-instances": {"train": 118287, "test": 5000},
    "coco2017-plus": {"train": 118287 + 123403},
    "camvid": {"train": 367, "val": 101, "test": 233},
}


def load(path: Path) -> DatasetSettings:
    return DatasetSettings.model_validate_json(read_yaml(path))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_each_file_is_valid_and_complete(path: Path) -> None:
    settings = load(path)
    assert settings.kind in PREPARERS
    assert settings.licence
    assert settings.classes is None or (CONFIGS / f"classes/{settings.classes}.yaml").is_file()
    for archive in settings.archives:
        assert bool(archive.urls) != bool(archive.manual), archive.file


@pytest.mark.parametrize("path", OFFICIAL, ids=lambda path: path.stem)
def test_counts(path: Path) -> None:
    assert load(path).counts == COUNTS[path.stem]


def test_demo_sets_use_every_file_of_the_world_by_its_sums() -> None:
    archives = [a for path in ALL if path not in OFFICIAL for a in load(path).archives]
    parts = {file: part for part, files in FILES.items() for file in files}
    assert sorted(archive.file for archive in archives) == sorted(parts)
    for archive in archives:
        assert archive.hash == "sums"
        assert archive.urls == (f"file://{{world}}/{parts[archive.file]}/{archive.file}",)

"""Stored attention maps: reading, and refusing what does not belong together."""

import pickle

import numpy as np
import pytest

from cp2.data.attention_maps import MAPS, RECORD, AttentionMaps, MapsRecord
from cp2.data.derived import write_record
from cp2.data.index import DatasetIndex, DatasetRecord, Split
from cp2.errors import WrongFile

RNG = np.random.default_rng(0)
STORED = RNG.integers(0, 256, (5, 4, 4), dtype=np.uint8)


def record(**changes):
    fields = {"dataset": "d", "digest": "abc", "split": "train", "images": 5, "side": 4}
    return MapsRecord(**{**fields, **changes})


def index(tmp_path, splits, **changes):
    fields = {"name": "d", "kind": "images", "title": "", "digest": "abc", "classes": None}
    rest = {"palette": None, "archives": (), "created": ""}
    sizes = {name: Split(images=images) for name, images in splits.items()}
    return DatasetIndex(
        tmp_path, DatasetRecord(**{**fields, **rest, "splits": sizes, **changes}), ()
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / MAPS).write_bytes(STORED.tobytes())
    write_record(tmp_path / RECORD, record())
    return tmp_path


def test_maps_come_back_by_index_also_in_another_process(folder):
    maps = AttentionMaps(folder)
    assert len(maps) == 5
    for found in (maps, pickle.loads(pickle.dumps(maps))):
        for i, expected in enumerate(STORED):
            assert np.array_equal(found[i], expected)


def test_a_pickled_reader_does_not_carry_the_maps(folder):
    maps = AttentionMaps(folder)
    assert maps[0].shape == (4, 4)
    assert len(pickle.dumps(maps)) < 1000 + len(str(folder))


def test_maps_of_the_very_data_set_are_taken(folder, tmp_path):
    maps = AttentionMaps(folder)
    maps.check(index(tmp_path, {"train": 5, "val": 3}))


@pytest.mark.parametrize(
    ("splits", "changes", "found"),
    [
        ({"train": 5}, {"name": "e"}, r"is e \(digest abc, 5 images of train\)"),
        ({"train": 5}, {"digest": "xyz"}, r"digest xyz"),
        ({"train": 6}, {}, r"6 images of train"),
        ({"train": 5, "unlabelled": 5}, {}, r"5 images of unlabelled"),
    ],
)
def test_maps_of_another_data_set_are_refused(folder, tmp_path, splits, changes, found):
    maps = AttentionMaps(folder)
    with pytest.raises(WrongFile, match=rf"made from data set d .*{found}.*run: cp2 masks"):
        maps.check(index(tmp_path, splits, **changes))


@pytest.mark.parametrize("size", [0, 79, 81])
def test_a_file_of_another_size_is_refused(folder, size):
    (folder / MAPS).write_bytes(bytes(size))
    with pytest.raises(WrongFile, match=rf"has {size} bytes, maps.json says 80; delete"):
        AttentionMaps(folder)


def test_missing_and_damaged_records_are_named(folder):
    (folder / RECORD).write_text("{}")
    with pytest.raises(WrongFile, match=r"maps\.json: is not a whole record"):
        AttentionMaps(folder)
    (folder / RECORD).unlink()
    with pytest.raises(WrongFile, match=r"maps\.json: is not there; run: cp2 masks"):
        AttentionMaps(folder)

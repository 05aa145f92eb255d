import json

import pytest
from PIL import Image

from cp2.bench.data import WAYS, bench_data
from cp2.bench.photographs import write_photographs
from cp2.errors import UserError


def test_figures_are_complete_and_printed(tmp_path):
    lines = []
    paths = write_photographs(tmp_path, 3)
    figures = json.loads(json.dumps(bench_data(paths, seconds=0.4, rounds=1, say=lines.append)))
    assert tuple(figures["samples_per_second"]) == WAYS
    assert all(rate > 0 for rate in figures["samples_per_second"].values())
    assert all(len(rates) == 1 for rates in figures["rounds"].values())
    ratio = figures["samples_per_second"]["ours"] / figures["samples_per_second"]["published"]
    assert figures["speedup"]["ours"] == pytest.approx(ratio)
    assert figures["images"] == "3 given"
    assert len(lines) == 2 + len(WAYS)


def test_synthetic_photographs_repeat_and_have_the_size_of_real_ones(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    contents = []
    for folder in folders:
        folder.mkdir()
        contents.append([path.read_bytes() for path in write_photographs(folder, 2)])
    assert contents[0] == contents[1]
    assert contents[0][0] != contents[0][1]
    assert all(40_000 < len(data) < 150_000 for data in contents[0])
    with Image.open(folders[0] / "photograph-0000.jpg") as photograph:
        assert photograph.size == (500, 375)


def test_nothing_to_measure():
    with pytest.raises(UserError, match="3 rounds over 0 images"):
        bench_data([], seconds=1)

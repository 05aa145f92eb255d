"""Every bench once at toy size: the figures are there, and they are those of the real loops."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from cp2.augment.finetune import FinetuneDataset
from cp2.bench import finetune
from cp2.bench.data import bench_data
from cp2.bench.evaluate import bench_evaluate
from cp2.bench.finetune import bench_finetune
from cp2.bench.methods import ON_THAT_NETWORK
from cp2.bench.photographs import write_photographs
from cp2.bench.pretrain import all_backgrounds, bench_pretrain
from cp2.bench.scratch import scratch
from cp2.bench.sizes import Sizes
from cp2.bench.step import bench_step
from cp2.cli.main import app
from cp2.errors import UserError

TOY = Sizes(
    backbone="resnet-tiny",
    head="aspp-tiny",
    crop=32,
    batch=4,
    workers=0,
    steps=2,
    rounds=1,
    amp="off",
    queue=4096,
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"), 3)


def check(figures, names):
    assert list(figures["ways"]) == names
    for way in figures["ways"].values():
        assert way["samples_per_second"]["median"] > 0
        assert 0 < way["step_ms"]["p50"] <= way["step_ms"]["p95"]
        assert way["mfu"] > 0
        assert way["data_wait"] is None or 0 <= way["data_wait"] <= 1
    assert figures["images"] == "3 given photographs"
    assert json.loads(json.dumps(figures)) is not None


RELATIVES = ["densecl", "moco-v2-coco", "moco-v2-plus", "pixcon-sr"]  # one of each kind


def test_step_of_cp2_with_operators(photographs):
    lines = []
    figures = bench_step(TOY, photographs, ["cp2"], profile=True, say=lines.append)
    check(figures, ["published", "cp2", ON_THAT_NETWORK])
    assert figures["ways"]["cp2"]["data_wait"] < 0.5
    assert figures["ways"]["cp2"]["ratio"] > 0
    assert figures["beside"]["cp2"]["baseline"] == ON_THAT_NETWORK
    assert any("beside moco-v2 on cp2's network" in line for line in lines)
    assert set(figures["operators"]) == set(figures["ways"])
    for rows in figures["operators"].values():
        assert rows[0]["ms"] >= rows[-1]["ms"] > 0
        assert sum(row["share"] for row in rows) <= 1 + 1e-6
        assert any("conv" in row["operator"] for row in rows)


def test_step_of_the_relatives(photographs):
    """Two cells a side at output stride 32."""
    lines = []
    figures = bench_step(replace(TOY, crop=64), photographs, RELATIVES, say=lines.append)
    check(figures, RELATIVES)
    ways = figures["ways"]
    assert {way["role"] for way in ways.values()} == {"relative"}
    assert all(way["ratio"] is way["share_of_limit"] is None for way in ways.values())
    expected = dict.fromkeys([name for name in RELATIVES if name != "moco-v2-coco"], "moco-v2-coco")
    assert {name: found["baseline"] for name, found in figures["beside"].items()} == expected
    for name, found in figures["beside"].items():
        rates = [ways[way]["samples_per_second"]["median"] for way in ("moco-v2-coco", name)]
        assert found["time"] == pytest.approx(rates[0] / rates[1])
        memory = [ways[way]["tensor_mib"] for way in (name, "moco-v2-coco")]
        assert found["memory"] == pytest.approx(memory[0] / memory[1])
        assert found["memory"] > 1
    # A second queue of 4,096 x 128 float32
    assert ways["densecl"]["tensor_mib"] - ways["moco-v2-coco"]["tensor_mib"] > 2


def test_pretrain(photographs):
    figures = bench_pretrain(TOY, photographs, say=lambda line: None)
    ours = [f"ours, background {kind}" for kind in all_backgrounds()]
    check(figures, ["published", *ours, "step alone"])
    (row,) = figures["throughput"]
    assert row["samples_per_second"] == figures["ways"][ours[0]]["samples_per_second"]["median"]
    assert (row["stage"], row["method"], row["head"]) == ("pretrain", "cp2", "aspp-tiny")


def test_finetune(photographs):
    figures = bench_finetune(TOY, photographs, say=lambda line: None)
    check(figures, ["plain", "ours, first epoch", "ours, later epochs", "step alone"])
    later = figures["ways"]["ours, later epochs"]["samples_per_second"]["median"]
    assert figures["throughput"][0]["samples_per_second"] == later
    assert figures["throughput"][0]["crop_size"] == (32, 32)
    assert figures["cut_ms_per_sample"] > 0


def test_cutting_is_timed_on_the_first_photographs(photographs, monkeypatch):
    asked = []

    class Dataset(FinetuneDataset):
        def __getitem__(self, position):
            asked.append((len(self), position))
            return super().__getitem__(position)

    monkeypatch.setattr(finetune, "FinetuneDataset", Dataset)
    monkeypatch.setattr(finetune, "CUT_FROM", 2)
    monkeypatch.setattr(finetune, "CUTS", 3)
    with scratch(photographs) as room:
        assert finetune._cut_ms(room) > 0
    assert asked == [(2, position) for position in range(5)]


def test_evaluate(photographs):
    figures = bench_evaluate(TOY, photographs, say=lambda line: None)
    check(figures, ["plain", "ours", "model alone"])
    assert figures["ways"]["ours"]["data_wait"] is not None
    assert figures["throughput"][0]["stage"] == "evaluate"


def test_data(photographs):
    lines = []
    figures = bench_data(photographs, seconds=0.5, rounds=1, say=lines.append)
    names = list(figures["ways"])
    ours = [f"ours, background {kind}" for kind in all_backgrounds()]
    assert names[: 1 + len(ours)] == ["published", *ours]
    assert names[-1] == "decode alone"
    for name in ours:
        way = figures["ways"][name]
        assert way["ratio"] > 0
        assert way["share_of_limit"] > 0
        assert figures["device_ms_per_sample"][name] > 0
    permutation = figures["ways"][ours[0]]
    limit = figures["ways"]["3 decodes, 4 crops"]["samples_per_second"]["median"]
    rate = permutation["samples_per_second"]["median"]
    assert permutation["share_of_limit"] == pytest.approx(rate / limit)


def test_nothing_to_measure():
    with pytest.raises(UserError, match="no images"):
        bench_data([], seconds=1)


def test_command_writes_what_it_printed(photographs, tmp_path):
    options = ["--backbone", "resnet-tiny", "--head", "aspp-tiny", "--crop", "32", "--batch", "4"]
    more = ["--steps", "2", "--rounds", "1", "--workers", "0", "--background", "batch"]
    folder = str(photographs[0].parent)
    command = ["bench", "pretrain", folder, *options, *more, "--json", str(tmp_path / "a.json")]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "background batch" in done.output
    assert "background permutation" not in done.output
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["benches"]["pretrain"]["sizes"]["crop"] == 32
    assert found["benches"]["pretrain"]["machine"]["device"] == "cpu"

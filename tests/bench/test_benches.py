"""Every bench once at toy size: the figures are there, and they are those of the real loops."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from benchmarks import detection, finetune
from benchmarks.__main__ import app
from benchmarks.data import bench_data
from benchmarks.detection import bench_detection
from benchmarks.evaluate import bench_evaluate
from benchmarks.finetune import bench_finetune
from benchmarks.loops import ON_THAT_NETWORK
from benchmarks.pretrain import all_backgrounds, bench_pretrain
from benchmarks.sizes import Sizes
from benchmarks.step import bench_step
from cp2.costs.work_folder import work_folder, write_images
from cp2.errors import UserError
from cp2.protocols.segmentation.samples import FinetuneDataset

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
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 3)


def check(figures, names):
    assert list(figures["variants"]) == names
    for variant in figures["variants"].values():
        assert variant["samples_per_second"]["median"] > 0
        assert 0 < variant["step_ms"]["p50"] <= variant["step_ms"]["p95"]
        assert variant["mfu"] > 0
        assert variant["data_wait"] is None or 0 <= variant["data_wait"] <= 1
    assert figures["images"] == "3 given images"
    assert json.loads(json.dumps(figures)) is not None


RELATIVES = ["densecl", "moco-v2-coco", "moco-v2-plus", "pixcon-sr"]  # one of each kind


def test_step_of_cp2_with_operators(images):
    lines = []
    figures = bench_step(TOY, images, ["cp2"], profile=True, say=lines.append)
    check(figures, ["published", "cp2", ON_THAT_NETWORK])
    assert figures["variants"]["cp2"]["data_wait"] < 0.5
    assert figures["variants"]["cp2"]["ratio"] > 0
    assert figures["beside"]["cp2"]["baseline"] == ON_THAT_NETWORK
    assert any("beside moco-v2 on cp2's network" in line for line in lines)
    assert set(figures["operators"]) == set(figures["variants"])
    for rows in figures["operators"].values():
        assert rows[0]["ms"] >= rows[-1]["ms"] > 0
        assert sum(row["share"] for row in rows) <= 1 + 1e-6
        assert any("conv" in row["operator"] for row in rows)


def test_detection(monkeypatch):
    for name, value in (("VOC", (6, 20, 9)), ("COCO", (6, 80, 9)), ("MOST", 4)):
        monkeypatch.setattr(detection, name, value)
    lines = []
    sizes = replace(TOY, backbone="resnet18", crop=64, batch=2, steps=1)
    figures = bench_detection(sizes, say=lines.append)
    kinds = [(name, work) for work in ("training", "inference") for name in ("torchvision", "ours")]
    assert list(figures["variants"]) == [f"{name}, {work}" for name, work in kinds]
    for variant in figures["variants"].values():
        assert variant["samples_per_second"]["median"] > 0
    assert len(figures["score_seconds"]) == 2
    assert sum("scores of" in line for line in lines) == 2


def test_step_of_the_relatives(images):
    """Two cells a side at output stride 32."""
    lines = []
    figures = bench_step(replace(TOY, crop=64), images, RELATIVES, say=lines.append)
    check(figures, RELATIVES)
    variants = figures["variants"]
    assert {variant["role"] for variant in variants.values()} == {"relative"}
    assert all(
        variant["ratio"] is variant["share_of_limit"] is None for variant in variants.values()
    )
    expected = dict.fromkeys([name for name in RELATIVES if name != "moco-v2-coco"], "moco-v2-coco")
    assert {name: found["baseline"] for name, found in figures["beside"].items()} == expected
    for name, found in figures["beside"].items():
        rates = [
            variants[variant]["samples_per_second"]["median"] for variant in ("moco-v2-coco", name)
        ]
        assert found["time"] == pytest.approx(rates[0] / rates[1])
        memory = [variants[variant]["tensor_mib"] for variant in (name, "moco-v2-coco")]
        assert found["memory"] == pytest.approx(memory[0] / memory[1])
        assert found["memory"] > 1
    # A second queue of 4,096 x 128 float32
    assert variants["densecl"]["tensor_mib"] - variants["moco-v2-coco"]["tensor_mib"] > 2


def test_pretrain(images):
    figures = bench_pretrain(TOY, images, say=lambda line: None)
    ours = [f"ours, background {kind}" for kind in all_backgrounds()]
    check(figures, ["published", *ours, "step alone"])


def test_finetune(images):
    figures = bench_finetune(TOY, images, say=lambda line: None)
    check(figures, ["plain", "ours, first epoch", "ours, later epochs", "step alone"])
    assert figures["cut_ms_per_sample"] > 0


def test_cutting_is_timed_on_the_first_photographs(images, monkeypatch):
    asked = []

    class Dataset(FinetuneDataset):
        def __getitem__(self, position):
            asked.append((len(self), position))
            return super().__getitem__(position)

    monkeypatch.setattr(finetune, "FinetuneDataset", Dataset)
    monkeypatch.setattr(finetune, "CUT_FROM", 2)
    monkeypatch.setattr(finetune, "CUTS", 3)
    with work_folder(images) as work:
        assert finetune._cut_ms(work) > 0
    assert asked == [(2, position) for position in range(5)]


def test_evaluate(images):
    figures = bench_evaluate(TOY, images, say=lambda line: None)
    check(figures, ["plain", "ours", "model alone"])
    assert figures["variants"]["ours"]["data_wait"] is not None


def test_data(images):
    lines = []
    figures = bench_data(images, seconds=0.5, rounds=1, say=lines.append, batch=8)
    names = list(figures["variants"])
    ours = [f"ours, background {kind}" for kind in all_backgrounds()]
    assert names[: 1 + len(ours)] == ["published", *ours]
    assert names[-1] == "decode alone"
    for name in ours:
        variant = figures["variants"][name]
        assert variant["ratio"] > 0
        assert variant["share_of_limit"] > 0
        assert figures["device_ms_per_sample"][name] > 0
    permutation = figures["variants"][ours[0]]
    limit = figures["variants"]["3 decodes, 4 crops"]["samples_per_second"]["median"]
    rate = permutation["samples_per_second"]["median"]
    assert permutation["share_of_limit"] == pytest.approx(rate / limit)


def test_nothing_to_measure():
    with pytest.raises(UserError, match="no images"):
        bench_data([], seconds=1)


def test_command_writes_what_it_printed(images, tmp_path):
    options = ["--backbone", "resnet-tiny", "--head", "aspp-tiny", "--crop", "32", "--batch", "4"]
    more = ["--steps", "2", "--rounds", "1", "--workers", "0", "--background", "batch"]
    folder = str(images[0].parent)
    command = ["pretrain", folder, *options, *more, "--json", str(tmp_path / "a.json")]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "background batch" in done.output
    assert "background permutation" not in done.output
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["benches"]["pretrain"]["sizes"]["crop"] == 32
    assert found["benches"]["pretrain"]["machine"]["device"] == "cpu"

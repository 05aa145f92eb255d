"""Whether the worker's memory stays flat: a check that a leak fails."""

import json
import resource

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from typer.testing import CliRunner

from benchmarks import data
from benchmarks.__main__ import app
from benchmarks.data import GROWTH_LIMIT, POINTS, bench_memory
from benchmarks.machine import host_mib
from cp2.costs.work_folder import write_images
from cp2.errors import UserError

COUNTED = 320 - 32  # of 320 samples: the first tenth is warm-up


def kept_of_a_sample():
    """Bytes: together six times the limit, for a worker forked from this process at its largest."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(6 * GROWTH_LIMIT * largest / COUNTED)


class Leak(Dataset):
    """Keeps something of every sample."""

    def __init__(self, n, kept):
        self.n, self.kept, self.held = n, kept, []

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.held.append(torch.ones(self.kept, dtype=torch.uint8))
        return index


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 3)


@pytest.fixture
def leak(monkeypatch):
    def pipeline(work, settings, samples, batch, workers=1):
        return DataLoader(Leak(samples, pipeline.kept), batch, num_workers=workers)

    pipeline.kept = kept_of_a_sample()
    monkeypatch.setattr(data, "worker_batches", pipeline)
    monkeypatch.setattr(data, "all_backgrounds", lambda: ("permutation",))
    return pipeline


def test_the_command_writes_its_figures_and_fails_on_a_leak(images, leak, tmp_path):
    file, folder = tmp_path / "figures.json", str(images[0].parent)
    done = CliRunner().invoke(app, ["data", folder, "--memory", "328", "--json", str(file)])
    assert done.exit_code == 1
    assert "since 32 samples; MORE THAN the limit of +5%" in done.output
    memory = json.loads(file.read_text())["benches"]["memory"]
    (variant,) = memory["variants"].values()
    assert memory["flat"] is variant["flat"] is False
    assert variant["samples"] == [16 * n for n in range(1, 21)]
    assert variant["growth_mib"] == pytest.approx(variant["rss_mib"][-1] - variant["rss_mib"][1])
    # The worker runs ahead, and a busy system may take pages of files from it.
    assert variant["growth_mib"] > 0.2 * COUNTED * leak.kept / 2**20


def test_what_keeps_nothing_passes(images, leak):
    leak.kept = 0
    assert bench_memory(images, samples=320, say=lambda line: None)["flat"]


@pytest.mark.parametrize(("last", "flat"), [(209.0, True), (211.0, False)])
def test_growth_is_counted_from_a_tenth_of_the_samples(images, leak, monkeypatch, last, flat):
    sizes = iter([100.0, 200.0, *[500.0] * (POINTS - 3), last])
    monkeypatch.setattr(data, "worker_rss_mib", lambda: next(sizes))
    leak.kept = 0
    figures = bench_memory(images, samples=640, say=lambda line: None)
    (variant,) = figures["variants"].values()
    assert (variant["samples"][1], variant["growth_mib"], variant["flat"]) == (64, last - 200, flat)
    assert variant["growth"] == pytest.approx((last - 200) / 200)
    assert figures["limit"] == GROWTH_LIMIT


def test_real_workers_are_watched(images):
    figures = bench_memory(images, samples=320, say=lambda line: None)
    assert len(figures["variants"]) == 2
    for variant in figures["variants"].values():
        assert len(variant["rss_mib"]) == POINTS
        assert variant["rss_mib"][0] > 10
    assert host_mib() > 10


def test_unknown_memory_is_said(images, leak, monkeypatch):
    monkeypatch.setattr(data, "worker_rss_mib", lambda: None)
    with pytest.raises(UserError, match="does not tell a worker's memory"):
        bench_memory(images, samples=320)
    with pytest.raises(UserError, match="320 samples are the least"):
        bench_memory(images, samples=319)


def test_an_epoch_is_as_long_as_asked(images, monkeypatch):
    asked = []

    def stream(work, settings, samples, batch):
        asked.append(samples)
        return iter(range(samples // batch))

    monkeypatch.setattr(data, "worker_batches", stream)
    monkeypatch.setattr(data, "worker_rss_mib", lambda: 1.0)
    bench_memory(images, samples=60_000, say=lambda line: None)
    assert min(asked) >= 60_000

"""Pairs of views that became the same central crop are counted, and said once where many."""

import json

import torch
from noise import relative, write_noise

from cp2.settings.views import ViewSettings
from cp2.training.clock import Deadline
from cp2.training.pretrain import pretrain
from cp2.training.samples import CentralPairs

APART = torch.tensor([[0, 0, 9, 9, 0], [1, 0, 9, 9, 0]])
SAME = torch.tensor([[2, 2, 9, 9, 0], [2, 2, 9, 9, 1]])  # mirrored or not is no matter


def places(central, count=100):
    return torch.stack([SAME] * central + [APART] * (count - central))


def test_many_are_said_once():
    lines = []
    pairs = CentralPairs(ViewSettings(min_overlap=0.1), lines.append)
    for _ in range(4):
        pairs.check(places(central=3))
    assert not lines
    for _ in range(4):
        pairs.check(places(central=3))
    (line,) = lines
    assert line.startswith("15 of the first 500 pairs of views are the same central crop")
    (note,) = pairs.notes()
    assert note.startswith("24 of 800 pairs")


def test_few_are_only_noted():
    lines = []
    pairs = CentralPairs(ViewSettings(min_overlap=0.1), lines.append)
    for number in range(10):
        pairs.check(places(central=int(number == 0)))
    assert not lines
    assert len(pairs.notes()) == 1


def test_views_that_need_not_overlap_are_not_counted():
    pairs = CentralPairs(ViewSettings(), print)
    pairs.check(places(central=100))
    assert not pairs.pairs
    assert not pairs.notes()


def test_a_runs_record_says_it(tmp_path):
    configuration, plan = write_noise(tmp_path)
    run = next(r for r in plan.stage("pretrain") if r.tags["method"] == "moco-v2")
    views = {"crop_size": 64, "min_overlap": 0.95, "crop_scale": [0.3, 0.9]}
    run = relative(configuration, run, "pixcon-sr", views=views)
    pretrain(run, configuration.results, configuration.campaign.execution, Deadline())
    record = json.loads(run.folder(configuration.results).done.read_text())
    assert "pairs of views of this attempt" in "".join(record["notes"])

"""Plan and status grow with the runs and no faster: counted, not timed."""

from collections import Counter

import pytest
from costing import configuration

from cp2.plan import build as build_room
from cp2.plan import protocols
from cp2.plan.build import build_plan
from cp2.plan.listing import summary
from cp2.plan.progress import status as status_room
from cp2.plan.stages import Stages
from cp2.settings import yaml_files


@pytest.fixture
def calls(monkeypatch):
    """How often each of the functions was called that plan and status spend their time in."""
    found = Counter()

    def count(owner, name):
        known = getattr(owner, name)

        def counting(*args, **kwargs):
            found[name] += 1
            return known(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(protocols, "make_run")
    count(build_room, "evaluate_cell")
    count(Stages, "pretrain")
    count(yaml_files, "parse_yaml")
    count(status_room, "run_status")
    return found


def test_twice_the_seeds_are_twice_the_work(calls, tmp_path):
    seen, runs = [], []
    for seeds in (2, 4, 8):
        calls.clear()
        given = f"campaign.seeds.finetune={list(range(seeds))}"
        settings = configuration(tmp_path, given)
        plan = build_plan(settings)
        assert f"{len(plan.runs)} runs" in summary(settings, plan)
        status_room.campaign_status(plan, settings.results)
        seen.append(Counter(calls))
        runs.append(len(plan.runs))
    few, some, many = seen
    assert runs[2] - runs[1] == 2 * (runs[1] - runs[0]) > 0
    for name in ("make_run", "evaluate_cell", "run_status"):
        assert many[name] - some[name] == 2 * (some[name] - few[name]) > 0
    for name in (
        "pretrain",
        "parse_yaml",
    ):  # settings and pretrainings are of no seed of finetuning
        assert few[name] == some[name] == many[name] > 0

"""`cp2 show` and the summary of `cp2 plan`, on the demo's plan."""

import json
from pathlib import Path

import pytest

from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan
from cp2.plan.listing import summary
from cp2.reporting.show import show
from cp2.settings.load import Configuration, load_campaign


@pytest.fixture
def demo(tmp_path: Path) -> tuple[Configuration, Plan]:
    configuration = load_campaign("demo", [f"campaign.execution.results={tmp_path}"])
    return configuration, build_plan(configuration)


def test_a_pretraining(demo: tuple[Configuration, Plan], tmp_path: Path) -> None:
    configuration, plan = demo
    run = next(run for run in plan.stage("pretrain") if run.tags["method"] == "cp2")
    lines = show(configuration, plan, run).splitlines()
    assert lines[0] == run.key
    words = [line.split() for line in lines]
    for wanted in (
        ["state", "waiting"],
        ["folder", str(tmp_path / "pretrain" / run.id)],
        ["needs", "dataset/demo-imagenet"],
        ["pretrain.method.batch_size", "256", "32"],
        ["pretrain.epochs", "200", "3"],
        ["batch_size:", "32"],
    ):
        assert wanted in words, wanted
    assert any(line.startswith("command") and f"{run.id}/done.json" in line for line in lines)


def test_a_killed_run_says_so(demo: tuple[Configuration, Plan], tmp_path: Path) -> None:
    configuration, plan = demo
    run = next(plan.stage("pretrain"))
    folder = run.folder(configuration.results).path
    folder.mkdir(parents=True)
    started = {"attempt": 1, "event": "started", "time": 0, "host": "a", "pid": 1, "job": None}
    line = json.dumps(started | {"device": "cpu", "processes": 1})
    (folder / "attempts.jsonl").write_text(f"{line}\n")
    assert "failed: it ended without a word" in show(configuration, plan, run)


def test_every_run_can_be_shown(demo: tuple[Configuration, Plan]) -> None:
    configuration, plan = demo
    for stage in ("world", "dataset", "checkpoint", "finetune", "evaluate"):
        run = next(plan.stage(stage))
        text = show(configuration, plan, run)
        assert text.startswith(run.key)
        assert ("differs in" in text) == (stage in ("finetune", "evaluate"))


def test_a_run_is_found_by_id_or_key(demo: tuple[Configuration, Plan]) -> None:
    _, plan = demo
    run = next(plan.stage("pretrain"))
    assert plan.find(run.id) is plan.find(run.key) is run
    with pytest.raises(UserError, match="write one of publish/demo-moco-v2-r200, checkpoint/"):
        plan.find("demo-moco-v2-r200")
    with pytest.raises(
        UserError, match=r"'nope': no run of this campaign .--campaign.; allowed: .* more"
    ):
        plan.find("nope")


def test_the_summary_counts_rows_and_runs(demo: tuple[Configuration, Plan]) -> None:
    lines = [line.split() for line in summary(*demo).splitlines()]
    assert lines[0] == ["cp2_deeplabv3", "cells", "missing", "runs", "done"]
    assert ["random", "init", "2", "0", "9", "0"] in lines
    assert ["43", "runs:", "0", "done,", "1", "ready,", "42", "blocked"] in lines

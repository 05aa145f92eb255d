"""A damaged record is named on the page; everything else is there as if nothing had happened."""

import json
from html import unescape
from pathlib import Path

import pytest
from fake_runs import Make, finish_cell, write_done, write_losses, write_picture

from cp2.plan.graph import Plan, Run
from cp2.reporting.report import write_report
from cp2.settings.load import Configuration

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
LINE = b'{"step": 1, "time": 11.0, "loss": 4.0}\n'
DAMAGE = [
    ("evaluate", "scores.json", b"{}"),
    ("evaluate", "scores.json", b"[]"),
    ("evaluate", "scores.json", b'{"miou": 0.7'),
    ("evaluate", "scores.json", b'{"miou": [0.7]}'),
    ("evaluate", "scores.json", b'{"miou": true}'),
    ("evaluate", "scores.json", b"\xff\xfe"),
    ("evaluate", "pictures/0000.png", PNG),
    ("evaluate", "pictures/0000.png", b""),
    ("pretrain", "pictures/composed.png", PNG),
    ("pretrain", "pictures/composed.png", b"cut"),
    ("pretrain", "metrics.jsonl", LINE + b'{"step": 2, "time": 12.0, "l\xff": 1.0}\n' + LINE),
    ("pretrain", "metrics.jsonl", LINE + b'{"step": 2, "time": 12.0, "loss": [1.0]}\n'),
    ("pretrain", "metrics.jsonl", LINE + b'{"step": 2, "time": 12.0, "loss": "1"}\n'),
    ("pretrain", "metrics.jsonl", LINE + b"[]\n{}\nnull\n" + LINE),
    *((stage, name, content)
      for stage in ("pretrain", "finetune", "evaluate")
      for name in ("recipe.json", "done.json", "environment.json")
      for content in (b"[]", b'{"a"', b"\xff")),
]  # fmt: skip
QUIET = [
    *((stage, name, b"{}")
      for stage in ("pretrain", "finetune", "evaluate")
      for name in ("recipe.json", "done.json", "environment.json")
      if (stage, name) != ("evaluate", "recipe.json")),
    ("evaluate", "attempts.jsonl", b'[]\n{"attempt": []}\n\xff\n'),
    ("pretrain", "metrics.jsonl", LINE + b'{"step": 2, "ti'),
    ("pretrain", "environment.json", b'{"git_commit": [], "host": {}, "attempt": "x"}'),
    ("pretrain", "done.json", b'{"seconds": "long", "finished": []}'),
]  # fmt: skip


@pytest.fixture
def filled(make: Make) -> tuple[Configuration, Plan]:
    """Two cells done, with all that they start from."""
    configuration, plan = make("paper")
    results = configuration.results
    for place, shares in ((2, [0.70, 0.74]), (4, [0.754, 0.758])):
        finish_cell(plan, "cp2_fcn", place, results, shares)
        for run in plan.ancestors(list(plan.tables["cp2_fcn"].cells[place].runs)):
            if run.stage in ("pretrain", "finetune"):
                write_done(run, results)
            if run.stage == "pretrain":
                write_losses(run, results)
                write_picture(run.folder(results).pictures / "composed.png", (100, 20))
            if run.stage == "evaluate":
                write_picture(run.folder(results).pictures / "0000.png", (308, 100))
    return configuration, plan


def _first(plan: Plan, stage: str) -> Run:
    """The run of that stage behind the first seed of CP² on VOC."""
    key = plan.tables["cp2_fcn"].cells[4].runs[0]
    return next(run for run in plan.ancestors([key]) if run.stage == stage)


def _written(configuration: Configuration, plan: Plan, published: Path) -> str:
    page = write_report(configuration, plan, published)
    pictures = page.with_name("pictures.html")
    text = page.read_text(encoding="utf-8") + pictures.read_text(encoding="utf-8")
    return json.dumps(unescape(text), ensure_ascii=False)


def _damaged(plan: Plan, stage: str, name: str, content: bytes, results: Path) -> Path:
    path = _first(plan, stage).folder(results).path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("stage", "name", "content"), DAMAGE)
def test_a_damaged_record_is_named(
    filled: tuple[Configuration, Plan], published: Path, stage: str, name: str, content: bytes
) -> None:
    configuration, plan = filled
    path = _damaged(plan, stage, name, content, configuration.results)
    text = _written(configuration, plan, published)
    assert str(path) in text
    assert "72.0 ± 2.8 (2)" in (configuration.reports / "tables" / "cp2_fcn.md").read_text()
    ours = (configuration.reports / "tables" / "cp2_fcn.md").read_text()
    whole = "75.6 ± 0.3 (2)" in ours
    tells = name == "scores.json" or (stage, name) == ("evaluate", "recipe.json")
    assert whole != tells
    assert whole or ("75.8 (1 of 2) <sup>" in ours and str(path) in ours)


def test_scores_copied_under_another_id_are_no_number(
    filled: tuple[Configuration, Plan], published: Path
) -> None:
    configuration, plan = filled
    run = _first(plan, "evaluate")
    recipe = run.folder(configuration.results).recipe
    content = json.loads(recipe.read_text())
    recipe.write_text(json.dumps(content | {"tags": content["tags"] | {"run_id": "cat-01234567"}}))
    text = _written(configuration, plan, published)
    ours = (configuration.reports / "tables" / "cp2_fcn.md").read_text()
    assert "75.8 (1 of 2) <sup>" in ours
    assert f"is of run 'cat-01234567', the folder is '{run.id}''s" in ours
    assert "is of run 'cat-01234567'" in text


@pytest.mark.parametrize(("stage", "name", "content"), QUIET)
def test_a_record_that_says_less_than_it_might(
    filled: tuple[Configuration, Plan], published: Path, stage: str, name: str, content: bytes
) -> None:
    configuration, plan = filled
    _damaged(plan, stage, name, content, configuration.results)
    _written(configuration, plan, published)
    assert "75.6 ± 0.3 (2)" in (configuration.reports / "tables" / "cp2_fcn.md").read_text()

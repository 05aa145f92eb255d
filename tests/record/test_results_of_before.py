"""Results that an earlier commit (c4750a3) wrote are still found and shown.

golden/results_before holds what its demo wrote for the table cp2_fcn: every text file of the runs,
paths and host names taken out, and the table's CSV as it was printed then. Weights and pictures,
which nothing here reads, are empty files.
"""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cp2.cli.main import app
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan
from cp2.reporting.report import write_report
from cp2.settings.load import Configuration, load_campaign

ROOT = Path(__file__).parents[2]
BEFORE = Path(__file__).parent / "golden" / "results_before"
TABLE = "cp2_fcn"


@pytest.fixture
def before(tmp_path: Path) -> tuple[Configuration, Plan]:
    results = tmp_path / "results"
    shutil.copytree(BEFORE, results)
    assignments = [
        f"campaign.execution.results={results}",
        f"campaign.execution.reports={tmp_path / 'reports'}",
        f"campaign.tables=[{TABLE}]",
        "campaign.select={}",
    ]
    configuration = load_campaign("demo", assignments, ROOT / "configs")
    plan = build_plan(configuration)
    for run in plan.runs.values():
        if run.folder(results).path.is_dir():
            for path in run.outputs(results).values():
                if not path.exists():
                    path.write_bytes(b"x")
    return configuration, plan


def test_every_run_of_the_table_is_done(before: tuple[Configuration, Plan]) -> None:
    configuration, plan = before
    keys = [key for cell in plan.tables[TABLE].cells for key in cell.runs]
    runs = plan.ancestors(keys)
    assert len(runs) == 16
    assert [run.key for run in runs if not run.is_done(configuration.results)] == []


def test_the_report_shows_the_numbers_of_then(before: tuple[Configuration, Plan]) -> None:
    configuration, plan = before
    page = write_report(configuration, plan, ROOT / "reports" / "published")
    found = (configuration.reports / "tables" / f"{TABLE}.csv").read_text(encoding="utf-8")
    then = (BEFORE / f"{TABLE}.csv").read_text(encoding="utf-8")
    assert list(csv.reader(io.StringIO(found))) == list(csv.reader(io.StringIO(then)))
    text = page.read_text(encoding="utf-8")
    for row in csv.DictReader(io.StringIO(then)):
        assert f"{float(row['mean']):.1f}"[-2:] in text
        assert row["runs"] in text
    assert "damaged" not in text


def test_mlflow_gets_them(
    before: tuple[Configuration, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    configuration, _ = before
    uri = f"sqlite:///{configuration.results}/mlflow.db"
    asked = [f"--set={text}" for text in configuration.assignments]
    ended = CliRunner().invoke(app, ["track", "--campaign", "demo", *asked, "--uri", uri])
    assert ended.exit_code == 0, ended.output
    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    by_id = {run.data.tags.get("run_id"): run for run in runs}
    for path in BEFORE.glob("evaluate/*/scores.json"):
        scores = json.loads(path.read_text(encoding="utf-8"))
        metrics = by_id[path.parent.name].data.metrics
        assert metrics[f"val/{scores['dataset']}/miou"] == pytest.approx(scores["miou"])
    trained = next(run for key, run in by_id.items() if key and key.startswith("cp2-resnet-tiny"))
    history = client.get_metric_history(trained.info.run_id, "loss")
    lines = (BEFORE / "pretrain" / trained.data.tags["run_id"] / "metrics.jsonl").read_text()
    losses = [json.loads(line)["loss"] for line in lines.splitlines()]
    assert [point.value for point in sorted(history, key=lambda p: p.step)] == pytest.approx(losses)

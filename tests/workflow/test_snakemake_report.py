"""`snakemake --report` holds the same tables and figures, with captions and categories."""

import os
import shutil
import sys
import zipfile
from pathlib import Path

import forked
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))  # fake_runs.py

from fake_runs import write_done, write_losses

from cp2.plan.build import build_plan
from cp2.settings.load import load_campaign

ROOT = Path(__file__).parents[2]
CAMPAIGN = """
title: Tiny
base: demo
tables: [cp2_deeplabv3, cp2_fcn]
select:
  cp2_deeplabv3: {rows: [random init], columns: [voc2012 mIoU]}
  cp2_fcn: {rows: [CP2 200], columns: [voc2012 mIoU]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what Snakemake reads, with a campaign whose runs are done."""
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("workflow", "configs", "reports/published"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "configs" / "tiny.yaml").write_text(CAMPAIGN, encoding="utf-8")
    plan = build_plan(load_campaign("tiny", (), tmp_path / "configs"))
    results = tmp_path / "results"
    for run in plan.runs.values():
        for path in run.outputs(results).values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        if run.stage in ("pretrain", "finetune", "evaluate"):
            write_done(run, results, 0.5 if run.stage == "evaluate" else None)
            write_losses(run, results)
    return tmp_path


def snakemake(project: Path, *arguments: str, **environment: str) -> None:
    done = forked.run(
        *("snakemake", "--cores", "1", *arguments),
        *("--config", "campaign=tiny", "--", "reports/tiny/index.html"),
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def links(project: Path) -> int:
    """Numbers of the page that lead to MLflow."""
    return (project / "reports/tiny/index.html").read_text().count('rel="external"')


def test_the_page_leads_to_mlflow_and_snakemakes_report_holds_the_same(project: Path) -> None:
    # A store that refuses is said, stops nothing, and is asked again by the next Snakemake.
    tracked = project / "reports/tiny/tracked.txt"
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    snakemake(project, **away)
    assert links(project) == 0
    assert tracked.read_text().startswith("not imported:\nerror: tracking URI")
    snakemake(project)
    assert links(project) > 3
    assert "runs in experiment 'tiny'" in tracked.read_text()
    made = tracked.stat().st_mtime_ns
    snakemake(project)
    assert tracked.stat().st_mtime_ns == made

    drawn = (project / "reports/tiny/figures/losses.png").stat().st_mtime_ns
    os.utime(project / "reports/published/cp2_fcn.csv")
    snakemake(project)  # the figures are not deleted before the report is made again
    assert (project / "reports/tiny/figures/losses.png").stat().st_mtime_ns == drawn
    snakemake(project, "--report", "report.zip")
    with zipfile.ZipFile(project / "report.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
        page = archive.read("report/report.html").decode("utf-8")
    assert {
        f"{table}.{end}" for table in ("cp2_fcn", "cp2_deeplabv3") for end in ("csv", "html")
    } < (names)
    assert {"index.html", "pictures.html", "losses.png", "results_cp2_fcn.png"} < names
    for words in ("Tables", "Figures", "Page", "losses", "Where each number comes from"):
        assert words in page

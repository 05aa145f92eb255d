"""Footnotes say what of a number was made elsewhere."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml
from fake_runs import write_done

from cp2.plan.build import build_plan
from cp2.plan.graph import Plan
from cp2.record.files import write_json
from cp2.reporting.formats import ours_text, to_csv, to_latex, to_markdown
from cp2.reporting.report import write_report
from cp2.reporting.tables import TableView, view_tables
from cp2.settings.load import Configuration, load_campaign

CAMPAIGN = """
name: tiny
title: Tiny
scale: paper
tables: [cp2_deeplabv3, cp2_authors]
select:
  cp2_deeplabv3: {{rows: [supervised, BYOL 300, PixPro 400], columns: [voc2012 mIoU]}}
  cp2_authors: {{rows: [CP2 200], columns: [voc2012 mIoU]}}
imported: [{folder}/imported.yaml]
execution: {{results: {folder}/results, reports: {folder}/reports}}
"""
ENTRY = {
    "table": "cp2_deeplabv3",
    "row": "PixPro 400",
    "column": "voc2012 mIoU",
    "values": [77.0, 77.4],
    "seeds": [0, 1],
    "source": "group X, code 0123abc",
    "file": "scores.json",
    "sha256": hashlib.sha256(b"record").hexdigest(),
}


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Configuration, Plan]:
    (tmp_path / "scores.json").write_bytes(b"record")
    (tmp_path / "imported.yaml").write_text(yaml.safe_dump({"scores": [ENTRY]}))
    (tmp_path / "tiny.yaml").write_text(CAMPAIGN.format(folder=tmp_path))
    configuration = load_campaign(str(tmp_path / "tiny.yaml"))
    return configuration, build_plan(configuration)


def views_of(configuration: Configuration, plan: Plan) -> tuple[TableView, TableView]:
    main, authors = view_tables(configuration, plan, Path("reports/published"))
    return main, authors


def finish(configuration: Configuration, plan: Plan) -> None:
    for run in plan.stage("checkpoint"):
        write_json(run.folder(configuration.results).done, {"sha256": f"{run.id:x<64}"})
    for run in plan.stage("evaluate"):
        write_done(run, configuration.results, 0.77)


def test_imported_scores_are_marked(planned: tuple[Configuration, Plan]) -> None:
    main, _ = views_of(*planned)
    cell = main.cells["PixPro 400", "voc2012 mIoU"]
    assert ours_text(cell) == "77.2 ± 0.3 (2)"
    assert not cell.missing
    assert cell.gap == pytest.approx(77.2 - 77.5)
    note = (
        "scores imported, not run here: group X, code 0123abc (scores.json, sha256 "
        f"{hashlib.sha256(b'record').hexdigest()[:12]})"
    )
    assert cell.elsewhere == note
    assert note in to_markdown(main)
    assert "77.2 ± 0.3 (2) <sup>b</sup>" in to_markdown(main)
    assert "\\textsuperscript{b} scores imported" in to_latex(main)
    assert note in to_csv(main)


def test_files_of_unpublished_hash_are_named(planned: tuple[Configuration, Plan]) -> None:
    configuration, plan = planned
    main, _ = views_of(configuration, plan)
    note = main.cells["BYOL 300", "voc2012 mIoU"].elsewhere
    assert note.startswith(
        "pretrain_res50x1.pkl, not read yet (no hash is published; held to that of the first "
        "download); the released BYOL file scores 74.4 %"
    )
    finish(configuration, plan)
    main, _ = views_of(configuration, plan)
    note = main.cells["BYOL 300", "voc2012 mIoU"].elsewhere
    assert note.startswith("pretrain_res50x1.pkl, sha256 byol-r50xxxx (no hash")
    assert main.cells["supervised", "voc2012 mIoU"].elsewhere == ""  # its hash is published


def test_the_authors_weights_are_marked_with_their_hash(
    planned: tuple[Configuration, Plan],
) -> None:
    configuration, plan = planned
    finish(configuration, plan)
    main, authors = views_of(configuration, plan)
    cell = authors.cells["CP2 200", "voc2012 mIoU"]
    assert ours_text(cell) == "77.0 (1)"
    assert cell.imported == "imported weights"
    assert main.cells["BYOL 300", "voc2012 mIoU"].imported == ""  # a baseline, as in the paper
    assert main.cells["PixPro 400", "voc2012 mIoU"].imported == "imported scores"
    assert cell.gap == pytest.approx(77.0 - 77.6)
    assert (cell.elsewhere).startswith(
        "weights of backbone and head imported from cp2-r50-aspp-200ep.pth, sha256 cp2-r50-200x"
    )


def test_the_page_shows_imported_scores(planned: tuple[Configuration, Plan]) -> None:
    configuration, plan = planned
    page = write_report(configuration, plan, Path("reports/published")).read_text()
    assert "77.2 ± 0.3 (2)" in re.sub("<[^>]*>", "", page)
    assert "group X, code 0123abc" in page


def test_a_file_that_could_not_be_had_is_named_in_the_cell(
    planned: tuple[Configuration, Plan],
) -> None:
    configuration, plan = planned
    (run,) = (run for run in plan.stage("checkpoint") if run.id == "byol-r50")
    folder = run.folder(configuration.results).path
    folder.mkdir(parents=True)
    started = {"event": "started", "time": 1, "host": "h", "pid": 1, "job": None}
    started |= {"device": "cpu", "processes": 1}
    ended = {"event": "ended", "time": 2, "outcome": "failed", "step": None}
    error = "cannot download pretrain_res50x1.pkl (https://x: 404)."
    lines = [started | {"attempt": 1}, ended | {"attempt": 1, "error": error}]
    (folder / "attempts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    main, _ = views_of(configuration, plan)
    cell = main.cells["BYOL 300", "voc2012 mIoU"]
    assert cell.missing.startswith(f"not done: 0 of 1 runs; checkpoint byol-r50 failed: {error}")
    manual = run.recipe.checkpoint.archive.manual  # type: ignore[union-attr]
    assert manual is None or cell.missing.endswith(manual.strip())
    assert error in to_markdown(main)
    assert main.cells["supervised", "voc2012 mIoU"].missing == "not done: 0 of 1 runs"
    with (folder / "attempts.jsonl").open("a") as file:  # it is tried again
        file.write(json.dumps(started | {"attempt": 2}) + "\n")
    main, _ = views_of(configuration, plan)
    assert main.cells["BYOL 300", "voc2012 mIoU"].missing == "not done: 0 of 1 runs"


def test_tables_of_released_weights_say_so() -> None:
    """Backbones without a head look like a baseline's."""
    for file in Path("configs/tables").glob("*_authors*.yaml"):
        assert load_campaign("paper").table(file.stem).released, file

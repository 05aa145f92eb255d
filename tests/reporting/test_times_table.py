"""A table of seconds an epoch, and columns that say why they are empty."""

import re
from pathlib import Path

import pytest
from fake_runs import write_done

from cp2.plan.build import build_plan
from cp2.plan.graph import Plan
from cp2.reporting.figures.pictures import predictions
from cp2.reporting.figures.results import results as draw
from cp2.reporting.formats import gap_text, notes, to_csv, to_markdown
from cp2.reporting.tables import TableView, view_tables
from cp2.settings.load import Configuration, load_campaign

PUBLISHED = Path(__file__).parents[2] / "reports" / "published"
CAMPAIGN = """
title: times
scale: paper
tables: [densecl_time, densecl_matching]
epochs: {{1: 4, 800: 800}}
execution: {{results: {folder}/results}}
overrides:
  tables:
    densecl_matching:
      columns:
        - name: voc det AP
          dataset: voc2007
          metric: average_precision
          missing: "not available yet: object detection is not built"
        - {{name: voc2012 mIoU, dataset: voc2012}}
"""


@pytest.fixture
def campaign(tmp_path: Path) -> tuple[Configuration, Plan]:
    file = tmp_path / "times.yaml"
    file.write_text(CAMPAIGN.format(folder=tmp_path))
    configuration = load_campaign(str(file))
    return configuration, build_plan(configuration)


def view(campaign: tuple[Configuration, Plan], table: str) -> TableView:
    configuration, plan = campaign
    (found,) = view_tables(configuration, plan, PUBLISHED, [table])
    return found


def test_seconds_are_of_one_epoch(campaign: tuple[Configuration, Plan], tmp_path: Path) -> None:
    configuration, plan = campaign
    (key,) = plan.tables["densecl_time"].cells[0].runs  # MoCo-v2 on COCO
    write_done(plan.runs[key], configuration.results)  # 200.4 seconds, 4 epochs
    found = view(campaign, "densecl_time")
    cell = found.cells["MoCo-v2", "COCO time/epoch"]
    assert cell.mean == pytest.approx(200.4 / 4)
    assert (cell.published, gap_text(cell)) == (105, "")
    assert notes(found)[-1].startswith("Seconds, mean ±")
    assert "50.1 (1)" in to_markdown(found)
    assert ",seconds_per_epoch," in to_csv(found)
    assert draw(found, tmp_path).png.is_file()
    assert predictions(found, plan, configuration.results, tmp_path) is None


def test_a_damaged_time_is_named(campaign: tuple[Configuration, Plan]) -> None:
    configuration, plan = campaign
    run = plan.runs[plan.tables["densecl_time"].cells[0].runs[0]]
    write_done(run, configuration.results)
    run.folder(configuration.results).done.write_text('{"seconds": "long"}')
    cells = view(campaign, "densecl_time").cells.values()
    cell = next(cell for cell in cells if run.key in cell.runs)
    assert "seconds: found 'long', must be a time in seconds; delete the" in cell.missing


def test_empty_columns_are_shown_and_not_drawn(
    campaign: tuple[Configuration, Plan], tmp_path: Path
) -> None:
    configuration, plan = campaign
    cells = plan.tables["densecl_matching"].cells
    key = next(cell for cell in cells if cell.column == "voc2012 mIoU").runs[0]
    write_done(plan.runs[key], configuration.results, 0.5)
    found = view(campaign, "densecl_matching")
    text = to_markdown(found)
    assert "object detection is not built" in text
    assert re.search(r"\| — <sup>a</sup> +\| +56.7 \|", text)
    picture = draw(found, tmp_path)
    assert picture is not None
    svg = picture.svg.read_text()
    assert "voc2012 mIoU" in svg
    assert "voc det AP" not in svg


def test_a_columns_own_head_is_said(tmp_path: Path) -> None:
    configuration = load_campaign("paper_pixcon", (f"campaign.execution.results={tmp_path}",))
    plan = build_plan(configuration)
    (found,) = view_tables(configuration, plan, PUBLISHED, ["pixcon_coco_plus"])
    assert "head fcn-moco, fcn-mmseg for ade20k mIoU; cityscapes: 90,000" in found.protocol
    assert "Faster R-CNN C4 on VOC; voc0712: Faster R-CNN C4, 24,000 iterations" in found.protocol

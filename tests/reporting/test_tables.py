"""Cells hold what the runs say: spread, count, gap, reasons; never a number from nowhere."""

from pathlib import Path

import pytest
from fake_runs import Make, finish_cell, make_cell

from cp2.errors import WrongFile
from cp2.record.files import write_json
from cp2.reporting.formats import gap_text, ours_text
from cp2.reporting.tables import TableView, view_tables
from cp2.tables.frame import CellScores


def cell_of(view: TableView, row: str, dataset: str = "voc2012") -> CellScores:
    return view.cells[row, f"{dataset} mIoU"]


def test_mean_and_sample_std_over_seeds(make: Make, published: Path) -> None:
    configuration, plan = make("paper")
    finish_cell(plan, "cp2_fcn", 2, configuration.results, [0.70, 0.74])  # supervised, voc2012
    (view,) = view_tables(configuration, plan, published)
    cell = cell_of(view, "supervised")
    assert cell.mean == pytest.approx(72.0)
    assert cell.std == pytest.approx((2 * 2.0**2 / (2 - 1)) ** 0.5)  # divisor n - 1
    assert cell.n == 2
    assert not cell.missing
    assert cell.gap == pytest.approx(72.0 - 73.7)
    assert ours_text(cell) == "72.0 ± 2.8 (2)"
    assert gap_text(cell) == "−1.7"


def test_one_run_has_no_spread_and_no_number_is_without_count(make: Make, published: Path) -> None:
    configuration, plan = make("paper")
    finish_cell(plan, "cp2_fcn", 2, configuration.results, [0.70])
    finish_cell(plan, "cp2_fcn", 3, configuration.results, [0.412])  # ade20k has one seed
    (view,) = view_tables(configuration, plan, published)
    partial, whole = cell_of(view, "supervised"), cell_of(view, "supervised", "ade20k")
    assert partial.std is None
    assert ours_text(partial) == "70.0 (1 of 2)"
    assert partial.missing == "not done: 1 of 2 runs"
    assert ours_text(whole) == "41.2 (1)"
    assert not whole.missing


def test_missing_cells_say_why(make: Make, published: Path) -> None:
    configuration, plan = make("paper")
    (view,) = view_tables(configuration, plan, published)
    assert cell_of(view, "CP2 200").missing == "not done: 0 of 2 runs"
    assert cell_of(view, "CP2 200").mean is None
    unreachable = cell_of(view, "MoCo v2 v.300")
    assert "moco_v2_vits16_300ep.pth has no public URL" in unreachable.missing
    assert ours_text(unreachable) == "—"
    assert len(view.cells) == 4 * 2  # nothing was dropped


def test_published_numbers_are_found_by_row_and_column(make: Make, published: Path) -> None:
    configuration, plan = make("paper")
    (view,) = view_tables(configuration, plan, published)
    assert cell_of(view, "CP2 200").printed == "75.40 ± 0.2 (5)"
    assert cell_of(view, "supervised", "ade20k").published is None  # "-" in the paper
    assert cell_of(view, "random init").published is None
    assert [row.name for row in view.rows if row.extra] == ["random init"]


def test_no_gap_at_another_scale(make: Make, published: Path) -> None:
    configuration, plan = make("mini")
    finish_cell(plan, "cp2_fcn", 2, configuration.results, [0.70, 0.74])
    (view,) = view_tables(configuration, plan, published)
    cell = cell_of(view, "supervised")
    assert cell.published is not None
    assert cell.gap is None
    assert gap_text(cell) == ""


@pytest.mark.parametrize(
    ("gap", "text"), [(0.04, "0.0"), (-0.04, "0.0"), (0.06, "+0.1"), (-1.66, "−1.7"), (None, "")]
)
def test_gaps_are_signed_and_never_minus_zero(gap: float | None, text: str) -> None:
    assert gap_text(make_cell(gap=gap)) == text


@pytest.mark.parametrize("miou", [None, 41.2, -0.1, "0.4", float("nan")])
def test_a_score_that_is_no_share_is_missing(make: Make, published: Path, miou: object) -> None:
    configuration, plan = make("paper")
    finish_cell(plan, "cp2_fcn", 2, configuration.results, [0.70, 0.74])
    key = plan.tables["cp2_fcn"].cells[2].runs[0]
    scores = plan.runs[key].folder(configuration.results).scores
    write_json(scores, {"miou": miou})
    (view,) = view_tables(configuration, plan, published)
    cell = cell_of(view, "supervised")
    assert ours_text(cell) == "74.0 (1 of 2)"
    assert f"{scores}: miou: found {miou!r}, must be a share" in cell.footnote
    assert cell.missing.startswith(f"not done: 1 of 2 runs; {scores}: miou: found")


def test_a_run_that_is_not_done_is_not_counted(make: Make, published: Path) -> None:
    configuration, plan = make("paper")
    finish_cell(plan, "cp2_fcn", 2, configuration.results, [0.70, 0.74])
    key = plan.tables["cp2_fcn"].cells[2].runs[0]
    plan.runs[key].folder(configuration.results).done.unlink()
    (view,) = view_tables(configuration, plan, published)
    assert ours_text(cell_of(view, "supervised")) == "74.0 (1 of 2)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "published numbers are not there"),
        ("row,column,value,unit\n", "has no column 'std'"),
        ("row,column,value,std,unit\na,b,7x,,%\n", "line 2: value '7x' is not a number"),
    ],
)
def test_damaged_published_numbers(
    make: Make, tmp_path: Path, text: str | None, message: str
) -> None:
    configuration, plan = make("paper")
    if text is not None:
        (tmp_path / "cp2_fcn.csv").write_text(text)
    with pytest.raises(WrongFile, match=message):
        view_tables(configuration, plan, tmp_path)

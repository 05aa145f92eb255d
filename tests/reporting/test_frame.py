"""The frame of all scores, against the runs' records and Python's own statistics."""

import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_runs import Make, finish_cell

import cp2
from cp2.errors import UserError
from cp2.tables.frame import COLUMNS, cell_frame, score_frame, summarize


def test_a_line_a_planned_run_beside_the_published_number(make: Make, published: Path) -> None:
    configuration, plan = make("paper")
    finish_cell(plan, "cp2_fcn", 4, configuration.results, [0.754])
    frame = score_frame(configuration, plan, published)
    assert list(frame) == list(COLUMNS)
    lines = frame[(frame["row"] == "CP2 200") & (frame["column"] == "voc2012 mIoU")]
    assert list(lines["run"]) == list(plan.tables["cp2_fcn"].cells[4].runs)
    assert list(lines["seed"]) == [0, 1]
    assert list(lines["pretrain_seed"]) == [0, 0]
    np.testing.assert_array_equal(lines["value"], [75.4, np.nan])
    told = lines.iloc[0]
    assert (told["dataset"], told["metric"], told["unit"]) == ("voc2012", "miou", "percent")
    assert (told["published"], told["published_std"], told["printed"]) == (
        75.4,
        0.2,
        "75.40 ± 0.2 (5)",
    )
    assert told["published_error"] == pytest.approx(0.2 / 5**0.5)
    without = frame[frame["row"] == "MoCo v2 v.300"]  # a line a cell that cannot be made
    assert list(without["planned"]) == [False, False]
    assert without["reason"].str.contains("has no public URL").all()


def test_cells_are_means_and_sample_deviations(make: Make, published: Path) -> None:
    configuration, plan = make("paper")
    shares = {0: [0.4, 0.41], 2: [0.71], 4: [0.7, 0.7], 5: [0.384]}
    for place, some in shares.items():
        finish_cell(plan, "cp2_fcn", place, configuration.results, some)
    cells = cell_frame(score_frame(configuration, plan, published))
    assert len(cells) == len(plan.tables["cp2_fcn"].cells)
    for place, cell in enumerate(plan.tables["cp2_fcn"].cells):
        values = [100 * share for share in shares.get(place, [])]
        found = cells.loc["cp2_fcn", cell.row, cell.column]
        assert (found["n"], found["planned"]) == (len(values), len(cell.runs))
        assert found["values"] == pytest.approx(tuple(values))
        mean = statistics.mean(values) if values else np.nan
        std = statistics.stdev(values) if len(values) > 1 else np.nan
        np.testing.assert_allclose([found["mean"], found["std"]], [mean, std], atol=1e-12)
        np.testing.assert_allclose(found["gap"], mean - found["published"], atol=1e-12)


def test_groups_keep_their_order() -> None:
    frame = pd.DataFrame({"row": ["b", "a", "b", "a", "c"], "value": [1.0, 2.0, 4.0, 2.0, np.nan]})
    found = summarize(frame, ["row"])
    assert list(found.index) == ["b", "a", "c"]
    assert list(found["n"]) == [2, 2, 0]
    np.testing.assert_allclose(found["mean"], [2.5, 2.0, np.nan])
    np.testing.assert_allclose(found["std"], [4.5**0.5, 0.0, np.nan])


def test_scores_of_a_campaign_in_a_notebook(tmp_path: Path) -> None:
    frame = cp2.scores("demo", [f"campaign.execution.results={tmp_path}"])
    assert frame["value"].isna().all()
    assert set(frame["scale"]) == {"demo"}
    with pytest.raises(UserError, match="did you mean 'demo'"):
        cp2.scores("dmeo")

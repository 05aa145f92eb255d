"""What a budget buys, against trying every set of cells."""

import os
import subprocess
import sys
from itertools import combinations

import pytest
from campaigns import CONFIGS
from costing import configuration, costs, finish

from cp2.costs.budget import select, spend
from cp2.errors import UserError

RATES = (1000.0, 500.0, 100.0, 10.0)


def _cells(selection):
    return [cell for choice in selection.choices for cell in choice.cells]


def _hours(found, cells):
    runs = {
        run.key
        for table in found.plan.tables.values()
        for cell in table.cells
        if (table.name, cell.row, cell.column) in cells
        for run in found.plan.ancestors(list(cell.runs))
    }
    return sum(found.runs[key].left for key in runs)


@pytest.mark.parametrize("budget", [1, 2, 3, 5, 8, 12, 100])
def test_hours_are_those_of_the_chosen_cells_and_within_the_budget(tmp_path, budget):
    found = costs(tmp_path, RATES)
    chosen = select(found, budget)
    cells = _cells(chosen)
    assert chosen.hours == pytest.approx(_hours(found, cells))
    assert chosen.hours <= budget
    assert len(cells) + len(chosen.left_out) == 8
    for cell, more in chosen.left_out:  # nothing that would still fit is left out
        assert more == pytest.approx(_hours(found, [*cells, cell]) - chosen.hours)
        assert chosen.hours + more > budget


@pytest.mark.parametrize("budget", [1, 3, 5, 8])
def test_no_set_of_cells_within_the_budget_is_larger_here(tmp_path, budget):
    found = costs(tmp_path, RATES)
    every = [
        ("mini_segmentation", c.row, c.column) for c in found.plan.tables["mini_segmentation"].cells
    ]
    most = max(
        size
        for size in range(len(every) + 1)
        for cells in combinations(every, size)
        if _hours(found, cells) <= budget
    )
    assert len(_cells(select(found, budget))) == most


def test_cells_that_share_a_pretraining_come_together(tmp_path):
    """Alone, a cell of MoCo v2's row costs more than its pretraining spread over both."""
    chosen = select(costs(tmp_path, (200.0, 0.1, 1000.0, 1000.0)), 10)
    rows = [[row for _, row, _ in choice.cells] for choice in chosen.choices]
    assert ["MoCo v2", "MoCo v2"] in rows
    assert all("CP2" not in row for choice in rows for row in choice)


def test_done_cells_are_free_and_unknown_ones_are_never_taken(tmp_path):
    found = costs(tmp_path, (1000.0, 0, 100.0, 10.0))
    for key in found.plan.tables["mini_segmentation"].cells[0].runs:
        for run in found.plan.ancestors([key]):
            finish(run, tmp_path / "results")
    chosen = select(costs(tmp_path, (1000.0, 0, 100.0, 10.0)), 1000)
    assert chosen.done == (("mini_segmentation", "random init", "labelled mIoU"),)
    assert {row for _, row, _ in chosen.unknown} == {"CP2 scratch", "CP2 QT"}
    assert len(_cells(chosen)) == 3
    assert not chosen.left_out


def test_a_budget_too_small_names_the_cheapest(tmp_path):
    found = costs(tmp_path, RATES)
    with pytest.raises(
        UserError, match=r"no cell fits; the cheapest is .*random init.* 0\.\d+ GPU-ho"
    ):
        select(found, 0.01)


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf")])
def test_a_budget_is_a_positive_number(tmp_path, budget):
    with pytest.raises(UserError, match=r"--budget .*must be a positive number"):
        select(costs(tmp_path, RATES), budget)


def test_targets_are_the_final_files_of_the_chosen_cells(tmp_path):
    found = costs(tmp_path, RATES)
    settings = configuration(tmp_path)
    targets = spend(found, settings, 2, None, targets=True).splitlines()
    runs = {f"evaluate/{target.split('/')[-2]}" for target in targets}
    assert runs == set(select(found, 2).runs)
    assert all(target.startswith(f"{tmp_path}/results/evaluate/") for target in targets)
    assert all(target.endswith("/done.json") for target in targets)


def test_the_command_keeps_the_settings_and_the_site(tmp_path):
    found = costs(tmp_path, RATES)
    settings = configuration(tmp_path, "protocols.small.amp=off")
    text = spend(found, settings, 100, None, targets=False)
    lines = text.splitlines()
    assert "100 GPU-hours on X1: 8 cells fit" in lines[0]
    assert lines[-2].endswith("--budget 100 --targets > targets.txt")
    assert "--set protocols.small.amp=off" in lines[-2]
    assert lines[-1].lstrip().startswith("snakemake $(cat targets.txt) --workflow-profile ")
    assert '"protocols.small.amp=off"' in lines[-1]
    few = spend(found, settings, 0.8, "example", targets=False).splitlines()[-1]
    assert few.count("done.json") == 2
    assert "workflow/profiles/slurm" in few
    assert few.endswith("site=example")


def test_the_order_of_sets_does_not_choose():
    """Cells and hours of equally good choices, whatever Python's hash of a text."""
    words = ["plan", "--campaign", "paper_pixcon_ablations", "--budget", "3000"]
    texts = {
        subprocess.run(
            [sys.executable, "-m", "cp2", *words],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=CONFIGS.parent,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1

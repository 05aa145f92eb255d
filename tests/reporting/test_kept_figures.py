"""Figures are drawn once for one content, and records that are broken stop nothing."""

from pathlib import Path

import pytest
from fake_runs import Make, finish_cell
from matplotlib.figure import Figure

from cp2.reporting.figures.drawing import ReportFigure, save
from cp2.reporting.figures.report_figures import MARKS, kept, stamps
from cp2.reporting.provenance import LOG_BYTES, LOG_LINES, read_records


class Drawer:
    """Counts how often it draws."""

    def __init__(self, folder: Path, pictures: bool = False) -> None:
        self.folder, self.pictures, self.drawn = folder, pictures, 0

    def __call__(self) -> ReportFigure:
        self.drawn += 1
        return save(Figure((1, 1)), self.folder, "f", "T", "C", "t", self.pictures)


@pytest.mark.parametrize("pictures", [True, False])
def test_drawn_again_only_for_other_content_code_or_files(tmp_path: Path, pictures: bool) -> None:
    draw = Drawer(tmp_path, pictures)
    first = kept(tmp_path, "f", ("results",), [1], draw)
    assert kept(tmp_path, "f", ("results",), [1], draw) == first
    assert draw.drawn == 1
    kept(tmp_path, "f", ("results",), [2], draw)
    kept(tmp_path, "f", ("pictures",), [2], draw)
    assert draw.drawn == 3
    (tmp_path / "f.png").unlink()
    assert kept(tmp_path, "f", ("pictures",), [2], draw) == first
    assert draw.drawn == 4
    (tmp_path / MARKS / "f.json").write_text("{")
    kept(tmp_path, "f", ("pictures",), [2], draw)
    assert draw.drawn == 5


def test_nothing_to_show_is_kept_too(tmp_path: Path) -> None:
    calls: list[int] = []
    for _ in range(2):
        assert kept(tmp_path, "f", ("results",), [], lambda: calls.append(1)) is None
    assert calls == [1]


def test_stamps_change_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert stamps([path]) == []
    path.write_text("a")
    before = stamps([path])
    path.write_text("ab")
    assert stamps([path]) != before


def test_broken_records_are_said_and_logs_are_cut(make: Make) -> None:
    configuration, plan = make("paper")
    finish_cell(plan, "cp2_fcn", 4, configuration.results, [0.7, 0.71])
    key, other = plan.tables["cp2_fcn"].cells[4].runs
    folder = plan.runs[key].folder(configuration.results)
    folder.environment.write_text('{"git_comm')
    lines = [f"line {i} " + "x" * 600 for i in range(LOG_BYTES // 500)]
    folder.log.write_bytes("\n".join(lines).encode() + b"\n\xff half")
    records = read_records(configuration, plan)
    assert "environment.json: is not readable JSON" in (records[key].problem or "")
    shown = records[key].log.split("\n")
    assert shown[:-1] == lines[-len(shown) + 1 :]
    assert len(shown) <= LOG_LINES
    assert shown[-1] == "\ufffd half"
    assert (records[other].problem, records[other].commit) == (None, "0123456789")
    plan.runs[other].folder(configuration.results).environment.write_text("[1]")
    assert "environment.json: is a list, must be a JSON object" in (
        read_records(configuration, plan)[other].problem or ""
    )

"""What is written in the figures: the SVG files keep their text."""

import math
import re
from pathlib import Path

import matplotlib
import pytest
from fake_runs import SCORES, write_done, write_picture

from cp2.plan.build import build_plan
from cp2.record.files import write_json
from cp2.reporting.figures import pictures
from cp2.reporting.figures.drawing import STYLE, panel_grid
from cp2.reporting.figures.pictures import predictions
from cp2.reporting.figures.results import _bars as bars
from cp2.reporting.figures.results import _dots as dots
from cp2.reporting.figures.results import results
from cp2.reporting.tables import TableView, view_tables
from cp2.settings.load import load_campaign

PUBLISHED = Path(__file__).parents[2] / "reports" / "published"


def view_of(folder: Path, table: str, scale: str, shares: dict[str, list[float]]) -> TableView:
    """A table whose rows have these scores, one a finetuning seed."""
    file = folder / "figures.yaml"
    file.write_text(
        f"title: Figures\nscale: {scale}\ntables: [{table}]\n"
        "seeds: {pretrain: [0], finetune: [0, 1]}\n"
        f"execution: {{results: {folder}/results, reports: {folder}/reports}}\n",
        encoding="utf-8",
    )
    configuration = load_campaign(str(file))
    plan = build_plan(configuration)
    for cell in plan.tables[table].cells:
        for key, share in zip(cell.runs, shares.get(cell.row, []), strict=False):
            write_done(plan.runs[key], configuration.results, share)
    (view,) = view_tables(configuration, plan, PUBLISHED)
    return view


def drawn_text(view: TableView, folder: Path) -> list[str]:
    with matplotlib.rc_context(STYLE):
        figure = results(view, folder)
    assert figure is not None
    assert figure.png.read_bytes().startswith(b"\x89PNG")
    return re.findall(r"<text[^>]*>([^<]*)</text>", figure.svg.read_text(encoding="utf-8"))


def test_a_heat_map_has_ours_and_the_published_grid(tmp_path):
    shares = {"w=0.2 t=1": [0.7, 0.72], "w=10 t=2": [0.4, 0.4]}
    text = drawn_text(view_of(tmp_path, "cp2_dense_weight_temperature", "paper", shares), tmp_path)
    assert {"71.0", "40.0", "78.6", "75.8"} <= set(text)
    assert text.count("dense weight") == text.count("dense temperature") == 2
    assert "published" in text


def test_bars_have_their_numbers_and_say_what_is_not_done(tmp_path):
    shares = {"R50 200: CP2 + CP2 head": [0.5, 0.6]}
    text = drawn_text(view_of(tmp_path, "cp2_head_init", "demo", shares), tmp_path)
    assert "55.0" in text
    assert text.count("not done") == 8
    assert {"74.9", "79.5"} <= set(text)
    assert "published, paper scale" in text


@pytest.mark.parametrize("scale", ["paper", "demo"])
def test_a_curve_has_an_axis_of_its_own_for_another_scale(tmp_path, scale):
    shares = {"QT 0 epochs": [0.5, 0.5], "QT 40 epochs": [0.6, 0.62]}
    text = drawn_text(view_of(tmp_path, "cp2_qt_epochs", scale, shares), tmp_path)
    assert "epochs" in text
    assert ("published, paper scale" in text) == (scale == "demo")


@pytest.mark.parametrize("scale", ["paper", "demo"])
def test_dots_have_the_published_numbers_on_an_axis_of_their_own(tmp_path, scale):
    view = view_of(tmp_path, "cp2_fcn", scale, {"CP2 200": [0.35, 0.36]})
    with matplotlib.rc_context(STYLE):
        figure, caption = dots(view)
    assert ("do not compare" in caption, "Diamonds" in caption) == (scale == "demo", True)
    own, *others = [axes for axes in figure.axes if axes.get_title() == "voc2012 mIoU"] + [
        axes for axes in figure.axes if axes.get_xlabel() == "published, paper scale"
    ]
    assert len(others) == (3 if scale == "demo" else 0)
    published = (others or [own])[0]
    diamonds = [line for line in published.lines if line.get_marker() == "D"]
    cells = [cell for (_, column), cell in view.cells.items() if column == "voc2012 mIoU"]
    numbers = {cell.published for cell in cells if cell.published}
    assert set(diamonds[0].get_xdata()) == numbers


def test_a_single_bar_starts_at_zero(tmp_path):
    shares = {"R50 200: CP2 + CP2 head": [0.5, 0.6]}
    view = view_of(tmp_path, "cp2_head_init", "demo", shares)
    figure, _ = bars(view)
    ours, published = (axes.get_xlim() for axes in figure.axes)
    assert ours == (0.0, pytest.approx(1.3 * (55 + 100 * math.sqrt(0.005))))
    assert published[0] > 70


def test_nothing_done_draws_nothing(tmp_path):
    view = view_of(tmp_path, "cp2_qt_epochs", "paper", {})
    assert results(view, tmp_path) is None


def test_settings_are_not_compared_by_pictures(tmp_path):
    view = view_of(tmp_path, "cp2_qt_epochs", "paper", {"QT 0 epochs": [0.5]})
    assert predictions(view, None, tmp_path, tmp_path) is None


def test_columns_of_the_same_runs_have_their_pictures_once(tmp_path, monkeypatch):
    """Boxes and masks are numbers of one evaluation; its objects' colours are no classes."""
    file = tmp_path / "boxes.yaml"
    file.write_text(
        "title: Boxes\nbase: demo_full\ntables: [demo_instances]\n"
        f"execution: {{results: {tmp_path}/results, reports: {tmp_path}/reports}}\n",
        encoding="utf-8",
    )
    configuration = load_campaign(str(file))
    plan = build_plan(configuration)
    for key in {key for cell in plan.tables["demo_instances"].cells for key in cell.runs}:
        run = plan.runs[key]
        write_done(run, configuration.results)
        scores = {"metrics": {"ap": 0.1, "mask_ap": 0.1}, "dataset": run.tags["dataset"]} | SCORES
        write_json(run.folder(configuration.results).scores, scores)
        for number in range(2):
            folder = run.folder(configuration.results).pictures
            write_picture(folder / f"{number:04d}.png", (308, 100))
    (view,) = view_tables(configuration, plan, PUBLISHED)
    figures = []
    monkeypatch.setattr(pictures, "save", lambda figure, *_, **__: figures.append(figure))
    predictions(view, plan, configuration.results, tmp_path)
    titles = [axes.get_title() for axes in figures[0].axes if axes.get_title()]
    assert len(view.columns) == 2
    assert titles == ["coco2017-instances 1", "coco2017-instances 2"]
    assert not [axes for axes in figures[0].axes if axes.get_legend()]


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (2, 2), (5, 6)])
def test_panels_that_are_left_over_are_hidden(count, shown):
    figure, panels = panel_grid(count, across=3, width=1.0, height=1.0)
    assert len(panels) == count
    assert len(figure.axes) == shown
    assert sum(panel.axison for panel in figure.axes) == count

"""Figures of a report: results with spread, loss curves, composed images, predictions."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cp2.plan.graph import Plan, Run
from cp2.record.files import whole_file
from cp2.record.metrics import read_metrics
from cp2.reporting.tables import TableView

# Okabe and Ito's palette: told apart with every kind of colour vision, and by line style in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", ":", "-.")
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "svg.hashsalt": "cp2",  # the same figure gives the same file
    "svg.fonttype": "none",
}
DPI = 130
_PICTURE_WIDTH = 800  # pixels; wider pictures are shrunk before they are put into a sheet


@dataclass(frozen=True)
class ReportFigure:
    """One figure on disk: <folder>/<name>.png and .svg."""

    name: str
    title: str
    caption: str
    png: Path
    svg: Path
    table: str | None = None


def write_figures(
    plan: Plan, views: Sequence[TableView], results: Path, folder: Path
) -> list[ReportFigure]:
    """Draw all figures for which there is something to show."""
    figures: list[ReportFigure | None] = []
    with matplotlib.rc_context(_STYLE):
        for view in views:
            figures.append(_results(view, folder))
            figures.append(_predictions(view, plan, results, folder))
        figures.append(_losses(plan, results, folder))
        figures.append(_composed(plan, results, folder))
    return [figure for figure in figures if figure]


def _results(view: TableView, folder: Path) -> ReportFigure | None:
    """One panel a column; a dot a run, a bar from mean - std to mean + std, the paper's number."""
    if not any(cell.n for cell in view.cells.values()):
        return None
    rows = [row.name for row in view.rows]
    places = {name: place for place, name in enumerate(reversed(rows))}
    size = (2.2 + 2.6 * len(view.columns), 0.9 + 0.28 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(view.columns), sharey=True, squeeze=False)[0]
    for panel, column in zip(panels, view.columns, strict=True):
        for name, place in places.items():
            cell = view.cells[name, column.name]
            values = list(cell.scores.values())
            panel.plot(values, [place] * len(values), "o", ms=3, color=COLOURS[0], alpha=0.5)
            if cell.mean is not None:
                panel.errorbar(cell.mean, place, xerr=cell.std, fmt="|", ms=9, color=COLOURS[0])
            if view.at_paper_scale and cell.published:
                panel.plot(cell.published.value, place, "D", ms=4, mfc="none", color=COLOURS[1])
        panel.set_title(column.name)
        panel.set_xlabel("percent")
        panel.locator_params(axis="x", nbins=5)
        panel.grid(axis="x", alpha=0.3, lw=0.5)
        panel.set_yticks(list(places.values()), list(places))
        panel.tick_params(axis="y", length=0)
        panel.set_ylim(-0.6, len(rows) - 0.4)
    caption = "Dots: runs. Vertical stroke: mean, with ± one sample standard deviation."
    if view.at_paper_scale and view.has_published:
        caption += " Diamonds: published."
    return _save(figure, folder, f"results_{view.name}", view.title, caption, view.name)


def _losses(plan: Plan, results: Path, folder: Path) -> ReportFigure | None:
    """A small panel for each pretraining that has logged a loss."""
    curves = []
    for run in plan.stage("pretrain"):
        lines = read_metrics(run.folder(results).metrics)
        names = list(
            dict.fromkeys(
                name for line in lines for name in line if name.split("/")[-1].startswith("loss")
            )
        )
        if names:
            curves.append((run, lines, names))
    if not curves:
        return None
    across = min(3, len(curves))
    down = math.ceil(len(curves) / across)
    figure = Figure(figsize=(3.0 * across, 2.2 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    colour = dict.fromkeys(name for _, _, names in curves for name in names)
    order = {name: index for index, name in enumerate(colour)}
    for panel, (run, lines, names) in zip(panels, curves, strict=False):
        for name in names:
            points = [(x["step"], x[name]) for x in lines if x.get(name) is not None]
            index = order[name]
            panel.plot(
                *zip(*points, strict=True) if points else ([], []),
                color=COLOURS[index % len(COLOURS)],
                linestyle=STYLES[index % len(STYLES)],
                lw=1.2,
                label=name,
            )
        panel.set_title(run.id.rsplit("-", 1)[0], fontsize=8)
        panel.set_xlabel("step")
        panel.grid(alpha=0.3, lw=0.5)
    for panel in panels[len(curves) :]:
        panel.set_visible(False)
    handles = {
        label: handle
        for panel in panels[: len(curves)]
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
    caption = (
        "Training loss of every pretraining, as logged; losses of two methods do not compare. The "
        "instance loss rises at first: the queue starts with random vectors, and fills with keys "
        "that are harder to tell apart. The dense loss stays near the logarithm of the number of "
        "cells and moves by a few tenths only."
    )
    return _save(figure, folder, "losses", "Pretraining losses", caption)


def _composed(plan: Plan, results: Path, folder: Path) -> ReportFigure | None:
    """What each pretraining saw in its first batch."""
    found = [
        (run.id.rsplit("-", 1)[0], run.folder(results).pictures / "composed.png")
        for run in plan.stage("pretrain")
    ]
    found = [(name, path) for name, path in found if path.is_file()]
    if not found:
        return None
    across = min(2, len(found))
    down = math.ceil(len(found) / across)
    figure = Figure(figsize=(5.0 * across, 2.8 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, (name, path) in zip(panels, found, strict=False):
        panel.imshow(_picture(path), interpolation="none")
        panel.set_title(name, fontsize=8)
    caption = (
        "A line an image. CP²: foreground, background, mask and composed image of the query, "
        "then of the key. MoCo v2: the two views."
    )
    return _save(figure, folder, "composed", "What the pretrainings see", caption)


def _predictions(view: TableView, plan: Plan, results: Path, folder: Path) -> ReportFigure | None:
    """One picture a cell, always the same image of the validation split down a column."""
    rows: list[tuple[str, list[Path | None]]] = []
    for row in view.rows:
        cells = [view.cells[row.name, column.name] for column in view.columns]
        paths = [_first_picture([plan.runs[key] for key in c.scores], results) for c in cells]
        if any(paths):
            rows.append((row.name, paths))
    if not rows:
        return None
    caption = "From left to right: image, label, prediction of the first seed's model."
    headers = [column.dataset for column in view.columns]
    title = f"Predictions: {view.title}"
    return _sheet(rows, headers, folder, f"predictions_{view.name}", title, caption, view.name)


def _first_picture(runs: Sequence[Run], results: Path) -> Path | None:
    pictures = (path for run in runs for path in sorted(run.folder(results).pictures.glob("*.png")))
    return next(pictures, None)


def _sheet(
    rows: Sequence[tuple[str, Sequence[Path | None]]],
    headers: Sequence[str],
    folder: Path,
    name: str,
    title: str,
    caption: str,
    table: str | None = None,
) -> ReportFigure:
    """A contact sheet: named rows of pictures, columns as wide as their pictures need."""
    images = [[_picture(path) if path else None for path in paths] for _, paths in rows]
    aspects = [
        max((i.shape[1] / i.shape[0] for line in images if (i := line[c]) is not None), default=1.0)
        for c in range(len(headers))
    ]
    width = min(9.0, 4.5 * len(headers))
    height = width / sum(aspects)
    size = (width + 1.2, 0.4 + (height + 0.12) * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), len(headers), squeeze=False, width_ratios=aspects)
    for r, (label, _) in enumerate(rows):
        for c, header in enumerate(headers):
            panel = panels[r, c]
            image = images[r][c]
            if image is not None:
                panel.imshow(image, interpolation="none")
            else:
                panel.text(0.5, 0.5, "not done", ha="center", va="center", color="0.5")
            panel.set(xticks=[], yticks=[])
            for spine in panel.spines.values():
                spine.set_visible(False)
            if r == 0 and header:
                panel.set_title(header)
            if c == 0:
                panel.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    return _save(figure, folder, name, title, caption, table)


def _picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        rgb = image.convert("RGB")
        if rgb.width > _PICTURE_WIDTH:
            rgb = rgb.resize((_PICTURE_WIDTH, round(rgb.height * _PICTURE_WIDTH / rgb.width)))
        return np.asarray(rgb)


def _save(
    figure: Figure, folder: Path, name: str, title: str, caption: str, table: str | None = None
) -> ReportFigure:
    paths = {}
    for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        buffer = io.BytesIO()
        figure.savefig(
            buffer, format=ending, dpi=DPI, metadata=metadata, bbox_inches="tight", facecolor="w"
        )
        paths[ending] = folder / f"{name}.{ending}"
        with whole_file(paths[ending]) as temporary:
            temporary.write_bytes(buffer.getvalue())
    return ReportFigure(name, title, caption, paths["png"], paths["svg"], table)

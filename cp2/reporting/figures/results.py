"""A table's numbers as a figure, with the published ones beside them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cp2.reporting.figures.drawing import COLOURS, ReportFigure, save
from cp2.reporting.tables import TableView
from cp2.settings.tables import CurveSettings, HeatMapSettings

OURS, PUBLISHED = COLOURS[0], COLOURS[1]
_PAPER_SCALE = "published, paper scale"


def results(view: TableView, folder: Path) -> ReportFigure | None:
    """The figure that the table asks for: dots (default), bars, a curve or a heat map."""
    numbers = view.frame.groupby("column")["n"].transform("sum")
    if not numbers.any():
        return None
    view = replace(view, frame=view.frame[numbers > 0])
    match view.settings.figure:
        case CurveSettings(x=x):
            figure, caption = _curve(view, x)
        case HeatMapSettings(x=x, y=y):
            figure, caption = _heat_maps(view, x, y)
        case None:
            figure, caption = _dots(view)
        case _:
            figure, caption = _bars(view)
    return save(figure, folder, f"results_{view.name}", view.settings.title, caption, view.name)


def _dots(view: TableView) -> tuple[Figure, str]:
    """One panel a column; a dot a run, a bar from mean - std to mean + std, the paper's number.

    At another scale the paper's numbers have an axis of their own, at the top.
    """
    size = (2.2 + 2.6 * len(view.columns), 1.2 + 0.28 * len(view.rows))
    figure, panels = _panels(size, len(view.columns), sharey=True)
    for panel, column in zip(panels, view.columns, strict=True):
        cells = _cells(view, column.name)
        names, heights = cells.index, range(len(cells))[::-1]
        cells = cells.set_axis(heights)
        for height, values in cells["values"].items():
            panel.plot(values, [height] * len(values), "o", ms=3, color=OURS, alpha=0.5)
        for height, mean, std in cells[["mean", "std"]].dropna(subset="mean").itertuples():
            panel.errorbar(mean, height, xerr=std, fmt="|", ms=9, color=OURS)
        published = cells["published"].dropna()
        if len(published):
            other = panel if view.at_paper_scale else panel.twiny()
            other.plot(published, published.index, "D", ms=4, mfc="none", color=PUBLISHED)
            if other is not panel:
                other.set_xlabel(_PAPER_SCALE, color=PUBLISHED, fontsize=8)
                other.tick_params(axis="x", labelsize=7, colors=PUBLISHED)
                other.spines["top"].set_visible(True)
                other.locator_params(axis="x", nbins=5)
        panel.set_title(column.name)
        panel.set_xlabel(view.unit)
        panel.locator_params(axis="x", nbins=5)
        panel.grid(axis="x", alpha=0.3, lw=0.5)
        panel.set_yticks(heights, names)
        panel.tick_params(axis="y", length=0)
        panel.set_ylim(-0.6, len(cells) - 0.4)
    caption = "Dots: runs. Vertical stroke: mean, with ± one sample standard deviation."
    return figure, caption + _published_caption(view, "Diamonds: published.")


def _bars(view: TableView) -> tuple[Figure, str]:
    """A bar a row with its spread; published numbers in a panel with an axis of its own."""
    shown = [(column, kind) for column in view.columns for kind in _kinds(view)]
    size = (2.4 + 2.8 * len(shown), 0.9 + 0.3 * len(view.rows))
    figure, panels = _panels(size, len(shown), sharey=True)
    for panel, (column, kind) in zip(panels, shown, strict=True):
        cells = _cells(view, column.name)
        _bar_panel(panel, cells, kind == "ours")
        panel.set_title(f"{column.name}\n{kind}")
        panel.set_yticks(range(len(cells))[::-1], cells.index)
        panel.tick_params(axis="y", length=0)
    caption = (
        "Mean over runs with ± one sample standard deviation; axes of several bars do not start at "
        "zero."
    )
    return figure, caption + _published_caption(view, "Hatched: published numbers.")


def _bar_panel(panel: Axes, cells: pd.DataFrame, ours: bool) -> None:
    """Bars with their numbers behind them; the axis starts a little below the shortest."""
    look: dict[str, Any] = {"color": "none", "edgecolor": PUBLISHED, "hatch": "///"}
    if ours:
        look = {"color": OURS, "edgecolor": OURS}
    values = cells["mean" if ours else "published"]
    spreads = cells["std"].fillna(0.0) if ours else 0.0 * values
    lines = zip(range(len(cells))[::-1], values, spreads, cells["digits"], strict=True)
    for height, value, spread, digits in lines:
        if pd.isna(value):
            left = panel.get_yaxis_transform()
            text = "not done" if ours else "none"
            panel.text(0.02, height, text, va="center", color="0.5", fontsize=7, transform=left)
            continue
        whisker = {"ecolor": "0.35", "capsize": 2, "lw": 1}
        panel.barh(height, value, height=0.62, xerr=spread or None, error_kw=whisker, **look)
        end, text = (value + spread, height), f"{value:.{digits}f}"
        panel.annotate(text, end, (4, 0), textcoords="offset points", va="center")
    starts, ends = (values - spreads).dropna(), (values + spreads).dropna()
    if len(ends) == 1:  # nothing to tell apart: the whole bar
        panel.set_xlim(0.0, 1.3 * ends.iloc[0] or 1.0)
    elif len(ends):
        span = max(ends.max() - starts.min(), 1.0)
        panel.set_xlim(max(0.0, starts.min() - 0.3 * span), ends.max() + 0.3 * span)


def _curve(view: TableView, x: str) -> tuple[Figure, str]:
    """Mean and spread along a coordinate of the rows; published numbers on an axis of their own."""
    at = [row.at[x] for row in view.rows]
    figure, panels = _panels((3.6 * len(view.columns) + 0.6, 2.8), len(view.columns))
    for panel, column in zip(panels, view.columns, strict=True):
        cells = _cells(view, column.name).set_axis(at)
        _line(panel, cells["mean"], cells["std"], "o-", OURS)
        if view.has_published:
            other = panel if view.at_paper_scale else panel.twinx()
            _line(other, cells["published"], 0.0 * cells["published"], "D--", PUBLISHED)
            if other is not panel:
                other.set_ylabel(_PAPER_SCALE, color=PUBLISHED)
                other.spines["right"].set_visible(True)
        panel.set_title(column.name)
        panel.set_xlabel(x.replace("_", " "))
        panel.set_ylabel(f"ours, {view.unit}", color=OURS)
        panel.grid(alpha=0.3, lw=0.5)
    caption = "Mean over runs with ± one sample standard deviation."
    return figure, caption + _published_caption(view, "Dashed with diamonds: published.")


def _heat_maps(view: TableView, x: str, y: str) -> tuple[Figure, str]:
    """A square a row of the table at its two coordinates, ours and published side by side."""
    shown = [(column, kind) for column in view.columns for kind in _kinds(view)]
    at = pd.DataFrame({y: [row.at[y] for row in view.rows], x: [row.at[x] for row in view.rows]})
    across, down = at.nunique()[[x, y]]
    size = (0.9 + (0.75 * across + 1.2) * len(shown), 1.2 + 0.5 * down)
    figure, panels = _panels(size, len(shown))
    for panel, (column, kind) in zip(panels, shown, strict=True):
        cells = _cells(view, column.name).set_axis(pd.MultiIndex.from_frame(at))
        _heat_map(panel, cells["mean" if kind == "ours" else "published"], cells["digits"].max())
        panel.set_title(f"{column.name}\n{kind}")
    caption = f"Mean over runs, {view.unit}; the darkest square is the best of its panel, boxed."
    return figure, caption


def _heat_map(panel: Axes, values: pd.Series, digits: int) -> None:
    """Values by two coordinates, the first upwards, the second to the right."""
    grid = values.unstack()
    panel.imshow(grid, cmap="Blues", origin="lower", aspect="auto", alpha=0.85)
    best = max(((value, r, c) for (r, c), value in _known(grid)), default=None)
    for (r, c), value in _known(grid):
        dark = value > (values.min() + values.max()) / 2
        box = {"boxstyle": "square", "fc": "none", "ec": PUBLISHED}
        panel.text(
            c,
            r,
            f"{value:.{digits}f}",
            ha="center",
            va="center",
            fontsize=8,
            color="w" if dark else "k",
            bbox=box if best == (value, r, c) else None,
        )
    panel.set_xticks(range(grid.shape[1]), [f"{at:g}" for at in grid.columns])
    panel.set_yticks(range(grid.shape[0]), [f"{at:g}" for at in grid.index])
    panel.set_xlabel(str(grid.columns.name).replace("_", " "))
    panel.set_ylabel(str(grid.index.name).replace("_", " "))


def _known(grid: pd.DataFrame) -> list[tuple[tuple[int, int], float]]:
    """(row, column) of a grid, and the number there."""
    found = ((place, value) for place, value in np.ndenumerate(grid.to_numpy()))
    return [(place, value) for place, value in found if not np.isnan(value)]


def _panels(size: tuple[float, float], count: int, sharey: bool = False) -> tuple[Figure, Any]:
    """A figure of `size` inches with panels side by side."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(1, count, sharey=sharey, squeeze=False)[0]


def _cells(view: TableView, column: str) -> pd.DataFrame:
    """The cells of a column, by row."""
    cells: Any = view.frame.xs(column, level="column")
    return cells.droplevel("table")


def _kinds(view: TableView) -> list[str]:
    published = "published" if view.at_paper_scale else _PAPER_SCALE
    return ["ours", published] if view.has_published else ["ours"]


def _line(panel: Axes, values: pd.Series, spreads: pd.Series, style: str, colour: str) -> None:
    there = values.notna()
    if there.any():
        values, spreads = values[there], spreads[there].fillna(0.0)
        panel.errorbar(values.index, values, yerr=spreads, fmt=style, color=colour, capsize=2)


def _published_caption(view: TableView, text: str) -> str:
    if not view.has_published:
        return ""
    scale = "" if view.at_paper_scale else " They are of the paper's scale and do not compare."
    return f" {text}{scale}"

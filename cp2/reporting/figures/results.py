"""A table's numbers as a figure, with the published ones beside them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cp2.reporting.figures.drawing import COLOURS, ReportFigure, save
from cp2.reporting.tables import TableView
from cp2.settings.tables import Column, CurveSettings, HeatMapSettings
from cp2.tables.frame import CellScores

OURS, PUBLISHED = COLOURS[0], COLOURS[1]
_PUBLISHED = "published, paper scale"


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
    rows = [row.name for row in view.rows]
    places = {name: place for place, name in enumerate(reversed(rows))}
    size = (2.2 + 2.6 * len(view.columns), 1.2 + 0.28 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(view.columns), sharey=True, squeeze=False)[0]
    for panel, column in zip(panels, view.columns, strict=True):
        for name, place in places.items():
            cell = view.cells[name, column.name]
            panel.plot(cell.values, [place] * cell.n, "o", ms=3, color=OURS, alpha=0.5)
            if cell.mean is not None:
                panel.errorbar(cell.mean, place, xerr=cell.std, fmt="|", ms=9, color=OURS)
        cells = {place: view.cells[name, column.name] for name, place in places.items()}
        _published_dots(panel, cells, view.at_paper_scale)
        panel.set_title(column.name)
        panel.set_xlabel(view.unit)
        panel.locator_params(axis="x", nbins=5)
        panel.grid(axis="x", alpha=0.3, lw=0.5)
        panel.set_yticks(list(places.values()), list(places))
        panel.tick_params(axis="y", length=0)
        panel.set_ylim(-0.6, len(rows) - 0.4)
    caption = "Dots: runs. Vertical stroke: mean, with ± one sample standard deviation."
    return figure, caption + _published_caption(view, "Diamonds: published.")


def _published_dots(panel: Axes, cells: dict[int, CellScores], at_paper_scale: bool) -> None:
    """A diamond a row that the paper has a number for."""
    numbers = [(c.published, p) for p, c in cells.items() if c.published is not None]
    if not numbers:
        return
    other = panel if at_paper_scale else panel.twiny()
    values, places = zip(*numbers, strict=True)
    other.plot(values, places, "D", ms=4, mfc="none", color=PUBLISHED)
    if other is not panel:
        other.set_xlabel(_PUBLISHED, color=PUBLISHED, fontsize=8)
        other.tick_params(axis="x", labelsize=7, colors=PUBLISHED)
        other.spines["top"].set_visible(True)
        other.locator_params(axis="x", nbins=5)


def _bars(view: TableView) -> tuple[Figure, str]:
    """A bar a row with its spread; published numbers in a panel with an axis of its own."""
    rows = [row.name for row in view.rows]
    places = list(range(len(rows)))[::-1]
    panels_of = [(column, kind) for column in view.columns for kind in _kinds(view)]
    size = (2.4 + 2.8 * len(panels_of), 0.9 + 0.3 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(panels_of), sharey=True, squeeze=False)[0]
    for panel, (column, kind) in zip(panels, panels_of, strict=True):
        cells = [view.cells[name, column.name] for name in rows]
        _bar_panel(panel, places, cells, kind == "ours")
        panel.set_title(f"{column.name}\n{kind}")
        panel.set_yticks(places, rows)
        panel.tick_params(axis="y", length=0)
    caption = (
        "Mean over runs with ± one sample standard deviation; axes of several bars do not start at "
        "zero."
    )
    return figure, caption + _published_caption(view, "Hatched: published numbers.")


def _bar_panel(panel: Axes, places: list[int], cells: list[CellScores], ours: bool) -> None:
    """Bars with their numbers behind them; the axis starts a little below the shortest."""
    colour = OURS if ours else PUBLISHED
    starts, ends = [], []
    for place, cell in zip(places, cells, strict=True):
        value, spread = _value(cell, ours), (cell.std or 0.0) if ours else 0.0
        if value is None:
            left = panel.get_yaxis_transform()
            text = "not done" if ours else "none"
            panel.text(0.02, place, text, va="center", color="0.5", fontsize=7, transform=left)
            continue
        panel.barh(
            place,
            value,
            height=0.62,
            color=OURS if ours else "none",
            edgecolor=colour,
            hatch=None if ours else "///",
            xerr=spread or None,
            error_kw={"ecolor": "0.35", "capsize": 2, "lw": 1},
        )
        end = (value + spread, place)
        panel.annotate(
            f"{value:.{cell.digits}f}", end, (4, 0), textcoords="offset points", va="center"
        )
        starts.append(value - spread)
        ends.append(value + spread)
    if ends:
        span = max(max(ends) - min(starts), 1.0)
        if len(ends) == 1:  # nothing to tell apart: the whole bar
            panel.set_xlim(0.0, 1.3 * ends[0] or 1.0)
        else:
            panel.set_xlim(max(0.0, min(starts) - 0.3 * span), max(ends) + 0.3 * span)


def _curve(view: TableView, x: str) -> tuple[Figure, str]:
    """Mean and spread along a coordinate of the rows; published numbers on an axis of their own."""
    at = [row.at[x] for row in view.rows]
    size = (3.6 * len(view.columns) + 0.6, 2.8)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(view.columns), squeeze=False)[0]
    for panel, column in zip(panels, view.columns, strict=True):
        cells = [view.cells[row.name, column.name] for row in view.rows]
        _line(panel, at, [(cell.mean, cell.std) for cell in cells], "o-", OURS, "ours")
        if view.has_published:
            other = panel if view.at_paper_scale else panel.twinx()
            values = [(cell.published, None) for cell in cells]
            _line(other, at, values, "D--", PUBLISHED, "published")
            if other is not panel:
                other.set_ylabel(_PUBLISHED, color=PUBLISHED)
                other.spines["right"].set_visible(True)
        panel.set_title(column.name)
        panel.set_xlabel(x.replace("_", " "))
        panel.set_ylabel(f"ours, {view.unit}", color=OURS)
        panel.grid(alpha=0.3, lw=0.5)
    caption = "Mean over runs with ± one sample standard deviation."
    return figure, caption + _published_caption(view, "Dashed with diamonds: published.")


def _heat_maps(view: TableView, x: str, y: str) -> tuple[Figure, str]:
    """A square a row of the table at its two coordinates, ours and published side by side."""
    panels_of = [(column, kind) for column in view.columns for kind in _kinds(view)]
    xs = sorted({row.at[x] for row in view.rows})
    ys = sorted({row.at[y] for row in view.rows})
    size = (0.9 + (0.75 * len(xs) + 1.2) * len(panels_of), 1.2 + 0.5 * len(ys))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(panels_of), squeeze=False)[0]
    for panel, (column, kind) in zip(panels, panels_of, strict=True):
        _heat_map(panel, view, column, kind == "ours", (x, xs), (y, ys))
        panel.set_title(f"{column.name}\n{kind}")
    caption = f"Mean over runs, {view.unit}; the darkest square is the best of its panel, boxed."
    return figure, caption


def _heat_map(
    panel: Axes,
    view: TableView,
    column: Column,
    ours: bool,
    x: tuple[str, list[float]],
    y: tuple[str, list[float]],
) -> None:
    (x_name, xs), (y_name, ys) = x, y
    grid = [[float("nan")] * len(xs) for _ in ys]
    cells = [view.cells[row.name, column.name] for row in view.rows]
    for row, cell in zip(view.rows, cells, strict=True):
        value = _value(cell, ours)
        if value is not None:
            grid[ys.index(row.at[y_name])][xs.index(row.at[x_name])] = value
    known = [(v, r, c) for r, line in enumerate(grid) for c, v in enumerate(line) if v == v]
    panel.imshow(grid, cmap="Blues", origin="lower", aspect="auto", alpha=0.85)
    best = max(known, default=None)
    lowest, highest = (min(known)[0], max(known)[0]) if known else (0.0, 0.0)
    for value, r, c in known:
        dark = value > (lowest + highest) / 2
        box = {"boxstyle": "square", "fc": "none", "ec": PUBLISHED}
        panel.text(
            c,
            r,
            f"{value:.{cells[0].digits}f}",
            ha="center",
            va="center",
            fontsize=8,
            color="w" if dark else "k",
            bbox=box if best == (value, r, c) else None,
        )
    panel.set_xticks(range(len(xs)), [f"{v:g}" for v in xs])
    panel.set_yticks(range(len(ys)), [f"{v:g}" for v in ys])
    panel.set_xlabel(x_name.replace("_", " "))
    panel.set_ylabel(y_name.replace("_", " "))


def _kinds(view: TableView) -> list[str]:
    published = "published" if view.at_paper_scale else _PUBLISHED
    return ["ours", published] if view.has_published else ["ours"]


def _value(cell: CellScores, ours: bool) -> float | None:
    return cell.mean if ours else cell.published


def _line(
    panel: Axes,
    at: list[float],
    values: Sequence[tuple[float | None, float | None]],
    style: str,
    colour: str,
    label: str,
) -> None:
    points = [(x, v, s or 0.0) for x, (v, s) in zip(at, values, strict=True) if v is not None]
    if points:
        xs, means, spreads = zip(*points, strict=True)
        panel.errorbar(xs, means, yerr=spreads, fmt=style, color=colour, label=label, capsize=2)


def _published_caption(view: TableView, text: str) -> str:
    if not view.has_published:
        return ""
    scale = "" if view.at_paper_scale else " They are of the paper's scale and do not compare."
    return f" {text}{scale}"

"""Pictures that runs wrote: predictions of every row of a table, and what pretrainings see."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cp2.errors import WrongFile
from cp2.plan.graph import Plan, Run
from cp2.plan.recipes import DatasetRecipe
from cp2.reporting.figures.drawing import ReportFigure, panel_grid, read_picture, run_title, save
from cp2.reporting.tables import TableView

IMAGES = 2  # a column of the table
PANELS = ("image", "label", "prediction")  # of an evaluation's picture, side by side
LEGEND = 40  # classes above which there is none
GAP = 4  # white pixels between them


class _Shown(NamedTuple):
    """An evaluation's picture: three panels, pixels (H, W, 3) each, and whose they are."""

    panels: list[np.ndarray]
    run: Run


def predictions(view: TableView, plan: Plan, results: Path, folder: Path) -> ReportFigure | None:
    """Image and label once, below them each row's prediction, down a column.

    A table drawn as a curve or a heat map compares settings, not methods, and has none.
    """
    if view.settings.axes:
        return None
    problems: dict[str, None] = {}
    columns: list[tuple[str, dict[str, _Shown]]] = []
    drawn: set[str] = set()
    for column in view.columns:
        pictures = _column(view, column.name, plan, results, problems)
        runs = {one.run.key for found in pictures for one in found.values()}
        if not runs <= drawn:  # else another number of the same runs
            columns += [(f"{column.dataset} {n}", found) for n, found in enumerate(pictures, 1)]
            drawn |= runs
    if not columns:
        return None
    rows = [row.name for row in view.rows if any(row.name in found for _, found in columns)]
    labels = [*PANELS[:2], *rows]
    aspects = [next(iter(found.values())).panels[0] for _, found in columns]
    widths = [image.shape[1] / image.shape[0] for image in aspects]
    height = min(8.0 / sum(widths), 1.2)  # inches a picture
    legends = [_legend(next(iter(found.values())).run, plan) for _, found in columns]
    lines = 0.13 * max(-(-len(handles) // 2) for handles in legends)  # inches
    figure = Figure(
        figsize=(height * sum(widths) + 1.8, height * len(labels) + 0.5 + lines),
        layout="constrained",
    )
    panels = figure.subplots(
        len(labels) + 1,
        len(columns),
        squeeze=False,
        width_ratios=widths,
        height_ratios=[height] * len(labels) + [lines + 0.01],
    )
    for c, (title, found) in enumerate(columns):
        image, label, _ = next(iter(found.values())).panels
        shown = [image, label, *(found[r].panels[2] if r in found else None for r in rows)]
        for r, pixels in enumerate(shown):
            panel = panels[r, c]
            if pixels is None:
                panel.text(0.5, 0.5, "not done", ha="center", va="center", color="0.5")
            else:
                panel.imshow(pixels, interpolation="none")
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
            if c == 0:
                panel.set_ylabel(labels[r], rotation=0, ha="right", va="center", fontsize=8)
        panels[0, c].set_title(title, fontsize=8)
        panels[-1, c].set_axis_off()
        if legends[c] and title.endswith(" 1"):  # once a data set
            legend = panels[-1, c].legend(
                handles=legends[c], loc="upper left", ncols=2, fontsize=6, frameon=False
            )
            legend.set_in_layout(False)  # it may reach below the next image
    shown_runs = {one.run.key: one.run for _, found in columns for one in found.values()}
    caption = (
        "The same images of the validation split for every row; predictions of each cell's first "
        f"run that is done, of seed {_seeds(shown_runs.values())}."
    )
    caption += "".join(f" {problem}." for problem in problems)
    title = f"Predictions: {view.settings.title}"
    name = f"predictions_{view.name}"
    return save(figure, folder, name, title, caption, view.name, pictures=True)


def _legend(run: Run, plan: Plan) -> list[Patch]:
    """The classes of an evaluation's data set in their colours; none where they are too many, or
    objects have colours in turn."""
    recipes = [plan.runs[need].recipe for need in run.needs]
    sets = [one for one in recipes if isinstance(one, DatasetRecipe)]
    found = [one.classes for one in sets if one.dataset.labels == "pixels"]
    return [
        Patch(color=f"#{bytes(colour).hex()}", label=name)
        for classes in found
        if classes and len(classes.classes) <= LEGEND
        for name, colour in zip(classes.classes, classes.palette, strict=True)
    ]


def evaluation_pictures(run: Run, results: Path) -> list[Path]:
    """The pictures of an evaluation; a pretraining, which has others, is none."""
    folder = run.folder(results).pictures
    return sorted(folder.glob("*.png")) if run.stage == "evaluate" else []


def _seeds(runs: Iterable[Run]) -> str:
    """ "0", or "0; 1: <run id>" where the first seed is not done everywhere."""
    by_seed: dict[int, list[str]] = {}
    for run in runs:
        by_seed.setdefault(run.seed or 0, []).append(run.id)
    first, *others = sorted(by_seed, key=lambda seed: -len(by_seed[seed]))
    return "; ".join([str(first), *(f"{seed}: {', '.join(by_seed[seed])}" for seed in others)])


def _column(
    view: TableView, column: str, plan: Plan, results: Path, problems: dict[str, None]
) -> list[dict[str, _Shown]]:
    """For each of the first images: row name -> the first done run's picture of it."""
    found: dict[str, dict[str, _Shown]] = {}
    for row in view.rows:
        cell = view.cells[row.name, column]
        for key in cell.scores:
            for path in evaluation_pictures(plan.runs[key], results)[:IMAGES]:
                of_image = found.setdefault(path.name, {})
                if row.name not in of_image:
                    try:
                        of_image[row.name] = _Shown(_split(path), plan.runs[key])
                    except WrongFile as error:
                        problems[str(error)] = None
    return [found[name] for name in sorted(found) if found[name]]


def _split(path: Path) -> list[np.ndarray]:
    """The three panels of an evaluation's picture.

    Raises:
        WrongFile: it is damaged, or too narrow for three.
    """
    sheet = read_picture(path)
    width = (sheet.shape[1] - (len(PANELS) - 1) * GAP) // len(PANELS)
    if width < 1:
        raise WrongFile(f"{path}: is too narrow for {', '.join(PANELS)}")
    starts = [i * (width + GAP) for i in range(len(PANELS))]
    return [sheet[:, start : start + width] for start in starts]


def composed(plan: Plan, results: Path, folder: Path) -> ReportFigure | None:
    """What each kind of pretraining saw in its first batch."""
    kinds: dict[tuple[str, ...], tuple[Run, Path]] = {}
    for run in plan.stage("pretrain"):
        path = run.folder(results).pictures / "composed.png"
        kind = (run.tags["method"].removesuffix("-qt"), *_mask_words(run), run.tags["dataset"])
        if path.is_file():
            kinds.setdefault(kind, (run, path))
    if not kinds:
        return None
    damage = ""
    figure, panels = panel_grid(len(kinds), across=2, width=5.0, height=2.8)
    for panel, (run, path) in zip(panels, kinds.values(), strict=True):
        panel.set_axis_off()
        panel.set_title(run_title(run), fontsize=8)
        try:
            panel.imshow(read_picture(path), interpolation="none")
        except WrongFile as error:
            panel.text(0.5, 0.5, "damaged", ha="center", va="center", color="0.5")
            damage += f" {error}."
    caption = (
        "A line an image. CP²: foreground, background, mask and composed image of the query, "
        "then of the key. MoCo v2: the two views. One sheet for each method, mask and data set."
    )
    title = "What the pretrainings see"
    return save(figure, folder, "composed", title, caption + damage, pictures=True)


def _mask_words(run: Run) -> list[str]:
    """The parts of the run's variant that change what is seen."""
    return [word for word in run.tags.get("variant", "").split() if word.startswith("mask.")]

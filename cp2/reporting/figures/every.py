"""All figures of a report."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import matplotlib

from cp2.errors import WrongFile
from cp2.plan.graph import Plan, Run
from cp2.reporting.figures.drawing import STYLE, ReportFigure
from cp2.reporting.figures.kept import kept, stamps
from cp2.reporting.figures.predictions import predictions
from cp2.reporting.figures.results import results as results_of
from cp2.reporting.figures.training import composed, losses
from cp2.reporting.tables import TableView


def write_figures(
    plan: Plan, views: Sequence[TableView], results: Path, folder: Path
) -> list[ReportFigure]:
    """Draw all figures for which there is something to show, those anew whose content changed."""
    pretrained = list(plan.stage("pretrain"))
    runs = [[run.key, run.tags] for run in pretrained]
    metrics = stamps(run.folder(results).metrics for run in pretrained)
    first = stamps(run.folder(results).pictures / "composed.png" for run in pretrained)
    figures = []
    with matplotlib.rc_context(STYLE):
        for view in views:
            draw = partial(results_of, view, folder)
            figures.append(kept(folder, f"results_{view.name}", ("results",), repr(view), draw))
        draw = partial(losses, plan, results, folder)
        figures.append(kept(folder, "losses", ("training", "curves"), [runs, metrics], draw))
        for view in views:
            draw = partial(predictions, view, plan, results, folder)
            content = _pictures(view, plan, results)
            figures.append(
                kept(folder, f"predictions_{view.name}", ("predictions",), content, draw)
            )
        draw = partial(composed, plan, results, folder)
        figures.append(kept(folder, "composed", ("training",), [runs, first], draw))
        draw = partial(_draw_masks, plan, results, folder)
        figures.append(kept(folder, "masks", ("masks",), _masks(plan, results), draw))
    return [figure for figure in figures if figure]


def _pictures(view: TableView, plan: Plan, results: Path) -> object:
    """Rows, and the pictures of every run that is done."""
    done = [key for cell in view.cells.values() for key in cell.scores if key in plan.runs]
    files = (p for key in done for p in sorted(_folder(plan.runs[key], results).glob("*.png")))
    return [view.title, [row.name for row in view.rows], stamps(files)]


def _folder(run: Run, results: Path) -> Path:
    return run.folder(results).pictures


def _masks(plan: Plan, results: Path) -> object:
    """The runs that the figure of masks may show, and the files that it reads."""
    runs = [run for stage in ("dataset", "masks") for run in plan.stage(stage)]
    files = (path for run in runs for path in run.outputs(results).values())
    return [[run.key for run in plan.stage("pretrain")], stamps(files)]


def _draw_masks(plan: Plan, results: Path, folder: Path) -> ReportFigure | None:
    # Here, because it needs torch, which costs seconds that tables alone need not pay.
    from cp2.reporting.figures.masks import mask_examples

    try:
        return mask_examples(plan, results, folder)
    except WrongFile as error:  # a data set is damaged: the numbers are there all the same
        print(f"no figure of masks: {error}")
        return None

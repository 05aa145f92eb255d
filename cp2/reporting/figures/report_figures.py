"""All figures of a report, each drawn again only when what it shows has changed."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib
from pydantic import TypeAdapter

from cp2.errors import WrongFile
from cp2.plan.graph import Plan
from cp2.plan.places import Places
from cp2.record.digest import digest
from cp2.record.files import read_json, write_json
from cp2.reporting.figures.curves import losses, probes
from cp2.reporting.figures.drawing import STYLE, ReportFigure
from cp2.reporting.figures.pictures import composed, evaluation_pictures, predictions
from cp2.reporting.figures.results import results as results_of
from cp2.reporting.tables import TableView

_FIGURE = TypeAdapter[ReportFigure | None](ReportFigure | None)
MARKS = ".drawn"  # folder beside the figures: what each was drawn from


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
            figures.append(kept(folder, f"results_{view.name}", ("results",), _numbers(view), draw))
        draw = partial(losses, plan, results, folder)
        figures.append(kept(folder, "losses", ("curves",), [runs, metrics], draw))
        looks = stamps(run.folder(results).probes for run in pretrained)
        draw = partial(probes, plan, Places(plan), results, folder)
        figures.append(kept(folder, "probes", ("curves",), [runs, looks], draw))
        for view in views:
            draw = partial(predictions, view, plan, results, folder)
            content = _pictures(view, plan, results)
            figures.append(kept(folder, f"predictions_{view.name}", ("pictures",), content, draw))
        draw = partial(composed, plan, results, folder)
        figures.append(kept(folder, "composed", ("pictures",), [runs, first], draw))
        draw = partial(_draw_masks, plan, results, folder)
        figures.append(kept(folder, "masks", ("masks",), _masks(plan, results), draw))
    return [figure for figure in figures if figure]


def _numbers(view: TableView) -> str:
    return f"{view.settings!r} {view.scale} {view.cells!r}"


def _pictures(view: TableView, plan: Plan, results: Path) -> object:
    """Rows, and the pictures of every run that is done."""
    done = [plan.runs[key] for cell in view.cells.values() for key in cell.scores]
    files = (path for run in done for path in evaluation_pictures(run, results))
    return [view.settings.title, [row.name for row in view.rows], stamps(files)]


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


def kept(
    folder: Path,
    name: str,
    code: tuple[str, ...],
    content: Any,
    draw: Callable[[], ReportFigure | None],
) -> ReportFigure | None:
    """The figure as it lies there if it was drawn from this content by this code, else drawn.

    Args:
        code: modules of this folder that draw it.
        content: plain values that change when the figure must.
    """
    mark = folder / MARKS / f"{name}.json"
    key = digest({"content": content, "code": _code(code)})
    try:
        known = read_json(mark)
        figure = _FIGURE.validate_python(known["figure"])
        files = [path for path in (figure.png, figure.svg) if path] if figure else []
        there = all(path.parent == folder and path.is_file() for path in files)
        if known["key"] == key and there:
            return figure
    except (WrongFile, KeyError, TypeError, ValueError):
        pass
    figure = draw()
    write_json(mark, {"key": key, "figure": _FIGURE.dump_python(figure, mode="json")})
    return figure


def stamps(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Name, size and time of files; those that are not there are left out."""
    found = []
    for path in paths:
        if path.is_file():
            status = path.stat()
            found.append((str(path), status.st_size, status.st_mtime_ns))
    return found


@cache
def _code(modules: tuple[str, ...]) -> list[str]:
    """Changes with the code that draws."""
    files = [Path(__file__).with_name(f"{name}.py") for name in ("drawing", *modules)]
    return [matplotlib.__version__, *(file.read_text(encoding="utf-8") for file in files)]

"""A figure is drawn again only when what it shows has changed."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib

from cp2.errors import WrongFile
from cp2.record.digest import digest
from cp2.record.files import read_json, write_json
from cp2.reporting.figures.drawing import ReportFigure

MARKS = ".drawn"  # folder beside the figures: what each was drawn from


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
        figure = _figure(folder, known["figure"])
        if known["key"] == key and (figure is None or _is_there(figure)):
            return figure
    except (WrongFile, KeyError, TypeError):
        pass
    figure = draw()
    write_json(mark, {"key": key, "figure": _plain(figure)})
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


def _is_there(figure: ReportFigure) -> bool:
    return all(path.is_file() for path in (figure.png, figure.svg) if path)


def _plain(figure: ReportFigure | None) -> dict[str, Any] | None:
    if figure is None:
        return None
    names = {"png": figure.png.name, "svg": figure.svg.name if figure.svg else None}
    return vars(figure) | names


def _figure(folder: Path, plain: dict[str, Any] | None) -> ReportFigure | None:
    if plain is None:
        return None
    svg = plain["svg"]
    figure = ReportFigure(**plain)
    return replace(figure, png=folder / plain["png"], svg=folder / svg if svg else None)

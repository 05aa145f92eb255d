"""How every figure of a report is drawn and saved."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cp2.errors import reading
from cp2.plan.graph import Run
from cp2.record.files import whole_file

# Okabe and Ito's palette: told apart with every kind of colour vision, and by line style in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", ":", "-.")
STYLE: dict[Any, Any] = {
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
    """One figure on disk: <folder>/<name>.png, and .svg of a drawing.

    Pictures have a page of their own, and no SVG, which would hold them as they are.
    """

    name: str
    title: str
    caption: str
    png: Path
    svg: Path | None
    table: str | None = None
    pictures: bool = False


def panel_grid(
    count: int, across: int, width: float, height: float
) -> tuple[Figure, Sequence[Axes]]:
    """A figure of `count` panels, at most `across` a line, each width x height inches."""
    across = min(across, count)
    down = math.ceil(count / across)
    figure = Figure(figsize=(width * across, height * down), layout="constrained")
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for panel in panels[count:]:
        panel.set_axis_off()
    return figure, panels[:count]


def run_title(run: Run) -> str:
    """A run's readable name, and its variant below it."""
    variant = run.tags.get("variant")
    return run.id.rsplit("-", 1)[0] + (f"\n{variant}" if variant else "")


def read_picture(path: Path) -> np.ndarray:
    """RGB pixels (H, W, 3) of a PNG, shrunk where it is very wide.

    Raises:
        WrongFile: it is cut or no picture.
    """
    with (
        reading(path, "a readable picture", "make it again"),
        Image.open(path, formats=("PNG",)) as image,
    ):
        rgb = image.convert("RGB")
    if rgb.width > _PICTURE_WIDTH:
        rgb = rgb.resize((_PICTURE_WIDTH, round(rgb.height * _PICTURE_WIDTH / rgb.width)))
    return np.asarray(rgb)


def save(
    figure: Figure,
    folder: Path,
    name: str,
    title: str,
    caption: str,
    table: str | None = None,
    pictures: bool = False,
) -> ReportFigure:
    """Write <folder>/<name>.png, and .svg of a drawing, each whole or not at all."""
    png = _write(figure, folder / f"{name}.png", {"Software": None})
    figure.set_layout_engine("none")  # it is laid out, which takes as long as to draw it
    svg = None if pictures else _write(figure, folder / f"{name}.svg", {"Date": None})
    return ReportFigure(name, title, caption, png, svg, table, pictures)


def _write(figure: Figure, path: Path, metadata: dict[str, None]) -> Path:
    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        format=path.suffix[1:],
        dpi=DPI,
        metadata=metadata,
        bbox_inches="tight",
        facecolor="w",
    )
    with whole_file(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return path

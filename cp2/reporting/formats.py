"""Tables as Markdown, LaTeX and CSV.

A number is never printed without its spread and count: "41.2 ± 0.3 (2)" is mean ± sample standard
deviation over 2 runs, "41.2 (1)" is one run, "41.2 (1 of 2)" is one run of two planned.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from cp2.plan.text import cell_text
from cp2.record.files import write_text
from cp2.reporting.tables import TableView
from cp2.tables.frame import CELL, CellScores

EXTRA_MARK = "†"
LEGEND = (
    "{unit}, mean ± sample standard deviation over runs (number of runs); one run has no spread."
)
EXTRA_LEGEND = f"{EXTRA_MARK} not in the published table."
SCALE_WARNING = (
    "Published numbers are of the paper's scale and are shown for orientation only; "
    "they cannot be compared with this {scale} campaign."
)
OURS = "ours"
_NUMBERS = [*CELL, "dataset", "metric", "label_fraction", "scale", "n", "planned", "mean", "std"]
_CSV_COLUMNS = [
    *_NUMBERS,
    *("values", "published", "published_std", "gap", "missing", "elsewhere", "runs"),
]


def ours_text(cell: CellScores) -> str:
    """Our number with spread and count, "—" where the plan has a reason, or what is not done."""
    if cell.reason:
        return "—"
    if cell.mean is None:
        return cell.missing or "—"
    count = f"{cell.n}" if cell.n == cell.planned else f"{cell.n} of {cell.planned}"
    return spread_text(cell.mean, cell.std, cell.digits, count)


def spread_text(mean: float, std: float | None, digits: int, count: str) -> str:
    """A mean with its spread, unless it is of one run, and count."""
    spread = f" ± {std:.{digits}f}" if std is not None else ""
    return f"{mean:.{digits}f}{spread} ({count})"


def gap_text(cell: CellScores) -> str:
    """Gap in points with its sign; empty where it is not defined."""
    if cell.gap is None:
        return ""
    rounded = round(cell.gap, cell.digits) + 0.0  # no -0.0
    return f"{rounded:{'+' if rounded else ''}.{cell.digits}f}".replace("-", "−")


def published_header(view: TableView) -> str:
    return "published" if view.at_paper_scale else "published (paper scale)"


def footnotes(view: TableView) -> dict[str, str]:
    """Why cells are missing, or what of them was made elsewhere -> letters in order."""
    found = dict.fromkeys(text for text in view.frame["footnote"] if text)
    return {text: _letter(index) for index, text in enumerate(found)}


def notes(view: TableView) -> list[str]:
    """Sentences that belong under the table, without its footnotes."""
    lines = [view.settings.note, *view.batches] if view.settings.note else [*view.batches]
    lines.append(LEGEND.format(unit=view.unit.capitalize()))
    if any(row.extra for row in view.rows):
        lines.append(EXTRA_LEGEND)
    if view.has_published and not view.at_paper_scale:
        lines.append(SCALE_WARNING.format(scale=view.scale))
    return lines


def text_frame(view: TableView, escape: Callable[[str], str], mark: str) -> pd.DataFrame:
    """What is printed: rows by (column, "ours" or "published" or "gap").

    Args:
        mark: how a footnote's letter is written, with {} for it.
    """
    letters = footnotes(view)

    def ours(cell: CellScores) -> str:
        sign = mark.format(letters[cell.footnote]) if cell.footnote else ""
        return escape(ours_text(cell)) + sign

    parts: dict[str, Callable[[CellScores], str]] = {OURS: ours}
    if view.has_published:
        parts[published_header(view)] = lambda cell: escape(cell.printed)
        if view.at_paper_scale:
            parts["gap"] = lambda cell: escape(gap_text(cell))
    texts = {
        (escape(column.name), part): [text(view.cells[r.name, column.name]) for r in view.rows]
        for column in view.columns
        for part, text in parts.items()
    }
    names = [escape(row.name + (f" {EXTRA_MARK}" if row.extra else "")) for row in view.rows]
    return pd.DataFrame(texts, index=names)


def markdown_table(frame: pd.DataFrame, headers: list[str], align: str) -> str:
    """A GitHub table of texts; `align` has a letter a column: l or r."""
    sides = ["right" if letter == "r" else "left" for letter in align]
    return frame.to_markdown(headers=headers, colalign=sides, disable_numparse=True)


def to_markdown(view: TableView) -> str:
    """A GitHub table with its source, protocol and notes."""
    frame = text_frame(view, markdown, " <sup>{}</sup>")
    headers = ["", *(name[0] if name[1] == OURS else name[1] for name in frame.columns)]
    lines = [
        f"# {markdown(view.settings.title)}",
        "",
        f"Source: {markdown(view.settings.source)}. Scale: {view.scale}. "
        f"Protocol: {markdown(view.protocol)}.",
        "",
        markdown_table(frame, headers, "l" + "r" * frame.shape[1]),
        "",
        *(f"{markdown(note)}  " for note in notes(view)),
        *(f"<sup>{mark}</sup> {markdown(text)}  " for text, mark in footnotes(view).items()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def to_latex(view: TableView) -> str:
    r"""A booktabs table; needs \usepackage{booktabs} and nothing else."""
    settings = view.settings
    frame = text_frame(view, latex, "\\textsuperscript{{{}}}")
    if not view.has_published:
        frame.columns = frame.columns.get_level_values(0)
    rows = frame.style.to_latex(
        hrules=True, multicol_align="c", column_format="l" + "r" * frame.shape[1]
    )
    below = [latex(note) for note in notes(view)]
    below += [f"\\textsuperscript{{{mark}}} {latex(t)}" for t, mark in footnotes(view).items()]
    lines = [
        "% " + _line(f"{settings.title}; source: {settings.source}; scale: {view.scale}"),
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{latex(settings.title)} ({latex(settings.source)}), {latex(view.scale)} "
        f"scale. {latex(view.protocol)}.}}",
        f"\\label{{tab:{view.name.replace('_', '-')}}}",
        f"{rows}\n\\medskip\n\\footnotesize",
        *(f"{text}\\par" for text in below),
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(view: TableView) -> str:
    """Long form, one line a cell, numbers in full; lists are separated by spaces."""
    frame = view.frame.reset_index()
    printed = frame["printed"].str.extract(r"^(\S*)(?: ± (\S+))?")
    frame["published"], frame["published_std"] = printed[0], printed[1]
    frame["label_fraction"] = frame["label_fraction"].map("{:g}".format, na_action="ignore")
    frame["values"] = [" ".join(f"{value:.4f}" for value in some) for some in frame["values"]]
    frame["runs"] = [" ".join(key.partition("/")[2] for key in runs) for runs in frame["runs"]]
    for name in frame.select_dtypes(object):
        frame[name] = [cell_text(some) if isinstance(some, str) else some for some in frame[name]]
    return frame.to_csv(columns=_CSV_COLUMNS, index=False, float_format="%.4f", lineterminator="\n")


def write_formats(view: TableView, folder: Path) -> Path:
    """Write <folder>/<table>.{md,csv,tex}; returns the Markdown file's path."""
    for ending, text in (("csv", to_csv(view)), ("tex", to_latex(view)), ("md", to_markdown(view))):
        write_changed(folder / f"{view.name}.{ending}", text)
    return folder / f"{view.name}.md"


def write_changed(path: Path, text: str) -> None:
    """Write a text; a file that is already right keeps its time.

    So nothing that Snakemake makes of it seems out of date.
    """
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "−": r"$-$",
        "×": r"$\times$",
        "²": r"\textsuperscript{2}",
        "†": r"\dag{}",
        "—": "---",
        "–": "--",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)


def latex(text: str) -> str:
    """The text on one line with LaTeX's special characters escaped."""
    return _line(text).translate(_LATEX)


def markdown(text: str) -> str:
    """The text as it may stand in a Markdown table: on one line, its signs without a meaning."""
    return re.sub(r"([\\`*|<\[])", r"\\\1", _line(text))


def _line(text: str) -> str:
    return " ".join(text.split())


def _letter(index: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa."""
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("a") + digit) + text
    return text

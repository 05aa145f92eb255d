"""Tables as Markdown, LaTeX and CSV.

A number is never printed without its spread and count: "41.2 ± 0.3 (2)" is mean ± sample standard
deviation over 2 runs, "41.2 (1)" is one run, "41.2 (1 of 2)" is one run of two planned.
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path

from cp2.record.files import write_text
from cp2.reporting.tables import CellView, TableView

EXTRA_MARK = "†"
LEGEND = (
    "{unit}, mean ± sample standard deviation over runs (number of runs); one run has no spread."
)
EXTRA_LEGEND = f"{EXTRA_MARK} not in the published table."
SCALE_WARNING = (
    "Published numbers are of the paper's scale and are shown for orientation only; "
    "they cannot be compared with this {scale} campaign."
)
_CSV_COLUMNS = [
    "table",
    "row",
    "column",
    "dataset",
    "metric",
    "label_fraction",
    "scale",
    "n",
    "planned",
    "mean",
    "std",
    "values",
    "published",
    "published_std",
    "gap",
    "missing",
    "elsewhere",
    "runs",
]


def ours_text(cell: CellView) -> str:
    """Our number with spread and count, "—" where the plan has a reason, or what is not done."""
    if cell.reason:
        return "—"
    if cell.mean is None:
        return cell.missing or "—"
    spread = f" ± {cell.std:.1f}" if cell.std is not None else ""
    count = f"{cell.n}" if cell.n == cell.planned else f"{cell.n} of {cell.planned}"
    return f"{cell.mean:.1f}{spread} ({count})"


def published_text(cell: CellView) -> str:
    """The published number as printed."""
    return str(cell.published) if cell.published else ""


def gap_text(cell: CellView) -> str:
    """Gap in points with its sign; empty where it is not defined."""
    if cell.gap is None:
        return ""
    rounded = round(cell.gap, 1) + 0.0  # no -0.0
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


def published_header(view: TableView) -> str:
    return "published" if view.at_paper_scale else "published (paper scale)"


def reasons(view: TableView) -> dict[str, str]:
    """Why cells are missing, or what of them was made elsewhere -> letters in order."""
    found = dict.fromkeys(cell.footnote for cell in view.cells.values() if cell.footnote)
    return {reason: _letter(index) for index, reason in enumerate(found)}


def notes(view: TableView) -> list[str]:
    """Sentences that belong under the table, without the reasons of missing cells."""
    lines = [view.note, *view.batches] if view.note else [*view.batches]
    lines.append(LEGEND.format(unit=view.unit.capitalize()))
    if any(row.extra for row in view.rows):
        lines.append(EXTRA_LEGEND)
    if view.has_published and not view.at_paper_scale:
        lines.append(SCALE_WARNING.format(scale=view.scale))
    return lines


def subcolumns(view: TableView) -> list[tuple[str, Callable[[CellView], str]]]:
    """What is printed of each cell: (header, text of a cell); "" stands for the column's name."""
    parts: list[tuple[str, Callable[[CellView], str]]] = [("", ours_text)]
    if view.has_published:
        parts.append((published_header(view), published_text))
        if view.at_paper_scale:
            parts.append(("gap", gap_text))
    return parts


def to_markdown(view: TableView) -> str:
    """A GitHub table with its source, protocol and notes."""
    marks = reasons(view)
    parts = subcolumns(view)
    header = [""] + [name or column.name for column in view.columns for name, _ in parts]
    lines = [
        f"# {view.title}",
        "",
        f"Source: {view.source}. Scale: {view.scale}. Protocol: {view.protocol}.",
        "",
        "| " + " | ".join(header) + " |",
        "|---" + "|---:" * (len(header) - 1) + "|",
    ]
    for row in view.rows:
        texts = [row.name + (f" {EXTRA_MARK}" if row.extra else "")]
        for column in view.columns:
            cell = view.cells[row.name, column.name]
            for _, text in parts:
                mark = marks.get(cell.footnote or "") if text is ours_text else None
                texts.append(text(cell) + (f" <sup>{mark}</sup>" if mark else ""))
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |")
    lines += ["", *(f"{note}  " for note in notes(view))]
    lines += [f"<sup>{mark}</sup> {reason}  " for reason, mark in marks.items()]
    return "\n".join(line if line.strip() else "" for line in lines).rstrip() + "\n"


def to_latex(view: TableView) -> str:
    r"""A booktabs table; needs \usepackage{booktabs} and nothing else."""
    marks = reasons(view)
    parts = subcolumns(view)
    groups = [
        f"\\multicolumn{{{len(parts)}}}{{c}}{{{latex(column.name)}}}" for column in view.columns
    ]
    lines = [
        f"% {view.title}; source: {view.source}; scale: {view.scale}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{latex(view.title)} ({latex(view.source)}), {latex(view.scale)} scale. "
        f"{latex(view.protocol)}.}}",
        f"  \\label{{tab:{view.name.replace('_', '-')}}}",
        f"  \\begin{{tabular}}{{l{'r' * len(parts) * len(view.columns)}}}",
        "    \\toprule",
        "    & " + " & ".join(groups) + " \\\\",
    ]
    if len(parts) > 1:
        names = [latex(name or "ours") for _ in view.columns for name, _ in parts]
        lines += ["    & " + " & ".join(names) + " \\\\"]
    lines.append("    \\midrule")
    for row in view.rows:
        texts = [latex(row.name + (f" {EXTRA_MARK}" if row.extra else ""))]
        for column in view.columns:
            cell = view.cells[row.name, column.name]
            for _, text in parts:
                mark = marks.get(cell.footnote or "") if text is ours_text else None
                texts.append(latex(text(cell)) + (f"\\textsuperscript{{{mark}}}" if mark else ""))
        lines.append("    " + " & ".join(texts) + " \\\\")
    lines += ["    \\bottomrule", "  \\end{tabular}", "", "  \\medskip", "  \\footnotesize"]
    below = [latex(note) for note in notes(view)]
    below += [f"\\textsuperscript{{{mark}}} {latex(text)}" for text, mark in marks.items()]
    lines += [f"  {text}\\par" for text in below]
    lines.append("\\end{table}")
    return "\n".join(lines) + "\n"


def to_csv(view: TableView) -> str:
    """Long form, one line a cell, numbers in full; lists are separated by spaces."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for cell in view.cells.values():
        writer.writerow(
            [
                view.name,
                cell.row,
                cell.column.name,
                cell.column.dataset,
                cell.column.metric,
                "" if cell.column.label_fraction is None else f"{cell.column.label_fraction:g}",
                view.scale,
                cell.n,
                cell.planned,
                _number(cell.mean),
                _number(cell.std),
                " ".join(_number(value) for value in cell.scores.values()),
                cell.published.text if cell.published else "",
                "" if cell.published is None or cell.published.std is None else cell.published.std,
                _number(cell.gap),
                cell.missing or "",
                cell.elsewhere or "",
                " ".join(key.partition("/")[2] for key in cell.runs),
            ]
        )
    return buffer.getvalue()


def write_formats(view: TableView, folder: Path) -> Path:
    """Write <folder>/<table>.{md,csv,tex}; returns the Markdown file's path.

    A file that is already right keeps its time, so that nothing made from it seems out of date.
    """
    for ending, text in (("csv", to_csv(view)), ("tex", to_latex(view)), ("md", to_markdown(view))):
        path = folder / f"{view.name}.{ending}"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
    return folder / f"{view.name}.md"


_LATEX = {
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
}


def latex(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(character, character) for character in text)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _letter(index: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa."""
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("a") + digit) + text
    return text

"""Golden texts of each format; REWRITE_GOLDEN=1 writes them anew (then read the difference)."""

import csv
import io
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from fake_runs import Make, finish_cell

from cp2.plan.build import build_plan
from cp2.plan.graph import Plan
from cp2.reporting.formats import (
    _LATEX,
    _letter,
    latex,
    to_csv,
    to_latex,
    to_markdown,
    write_formats,
)
from cp2.reporting.tables import TableView, view_tables
from cp2.settings.load import Configuration, load_campaign

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]


def fill(configuration: Configuration, plan: Plan) -> None:
    """random init: all done; supervised: half on voc2012; CP2 200: nothing on voc2012."""
    for place, shares in enumerate(([0.412, 0.416], [0.1], [0.7], [0.395], [], [0.384])):
        finish_cell(plan, "cp2_fcn", place, configuration.results, list(shares))


def view_of(make: Make, published: Path, scale: str) -> TableView:
    configuration, plan = make(scale)
    fill(configuration, plan)
    (view,) = view_tables(configuration, plan, published)
    return view


@pytest.mark.parametrize("scale", ["paper", "mini"])
@pytest.mark.parametrize(
    ("ending", "write"), [("md", to_markdown), ("csv", to_csv), ("tex", to_latex)]
)
def test_golden(make: Make, published: Path, scale: str, ending: str, write: object) -> None:
    assert callable(write)
    # Run ids end in a digest, which changes with every setting of the runs.
    text = re.sub(r"-[0-9a-f]{8}\b", "-<digest>", write(view_of(make, published, scale)))
    file = GOLDEN / f"{scale}.{ending}"
    if os.environ.get("REWRITE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_csv_keeps_every_number(make: Make, published: Path) -> None:
    view = view_of(make, published, "paper")
    lines = list(csv.DictReader(to_csv(view).splitlines()))
    assert len(lines) == len(view.cells)
    for line, cell in zip(lines, view.cells.values(), strict=True):
        assert (line["row"], line["column"]) == (cell.row, cell.column)
        assert int(line["n"]) == len(line["values"].split()) == cell.n
        assert len(line["runs"].split()) == int(line["planned"]) == len(cell.runs)
        assert bool(line["mean"]) == (cell.n > 0)


def test_a_right_file_keeps_its_time(make: Make, published: Path, tmp_path: Path) -> None:
    view = view_of(make, published, "paper")
    markdown = write_formats(view, tmp_path / "tables")
    os.utime(markdown, (1, 1))
    assert write_formats(view, tmp_path / "tables") == markdown
    assert markdown.stat().st_mtime == 1
    markdown.write_text("old")
    write_formats(view, tmp_path / "tables")
    assert markdown.read_text(encoding="utf-8") == to_markdown(view)


def test_texts_of_others_stay_text(make: Make, published: Path) -> None:
    view = view_of(make, published, "paper")
    hostile = "=HYPERLINK(1)|\n\\input{/etc/passwd}\n\n# [x](javascript:1) <b>*`"
    rows = [view.settings.rows[0].model_copy(update={"name": hostile}), *view.settings.rows[1:]]
    settings = view.settings.model_copy(
        update={"rows": tuple(rows), "title": hostile, "note": hostile, "source": hostile}
    )
    frame = view.frame.rename(index={view.rows[0].name: hostile}, level="row")
    frame.loc[frame.index[0], "missing"] = "-1+cmd|' /C calc'!A0"
    view = replace(view, settings=settings, frame=frame)
    csv_text, latex_text, text = to_csv(view), to_latex(view), to_markdown(view)
    first = next(csv.DictReader(io.StringIO(csv_text)))
    assert (first["row"], first["missing"]) == (f"'{hostile}", "'-1+cmd|' /C calc'!A0")
    assert latex_text.startswith("% =HYPERLINK(1)| \\input")
    assert "\\input" not in latex_text.partition("\n")[2]  # the first line is a comment
    assert not re.search(r"^ *(\\input|# \[)|(?<!\\)(\[x\]|<b>|\*|`)", text, re.MULTILINE)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1


DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex (texlive-latex-recommended)")
def test_latex_compiles(tmp_path: Path) -> None:
    """All tables of demo_full (segmentation, SVM, detection, times), and the escaped signs."""
    results = f"campaign.execution.results={tmp_path}"
    configuration = load_campaign("demo_full", [results], ROOT / "configs")
    views = view_tables(configuration, build_plan(configuration), ROOT / "reports" / "published")
    assert len({view.protocol for view in views}) > 3
    texts = [*map(to_latex, views), latex("".join(map(chr, _LATEX)))]
    (tmp_path / "all.tex").write_text(DOCUMENT % "\n\\clearpage\n".join(texts), encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-no-shell-escape", "all.tex"],
        cwd=tmp_path,
        env={**os.environ, "TEXMFVAR": str(tmp_path / "fonts")},
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").read_bytes().startswith(b"%PDF")


def test_latex_escapes() -> None:
    assert latex(r"50% & a_b #1 {x} \y ~ ^ $") == (
        r"50\% \& a\_b \#1 \{x\} \textbackslash{}y \textasciitilde{} \textasciicircum{} \$"
    )
    assert latex("CP² 1 ± 2 − †") == r"CP\textsuperscript{2} 1 $\pm$ 2 $-$ \dag{}"


@pytest.mark.parametrize(("index", "letter"), [(0, "a"), (25, "z"), (26, "aa"), (51, "az")])
def test_footnote_letters(index: int, letter: str) -> None:
    assert _letter(index) == letter

"""The HTML pages: files that need no network. One with tables and provenance, one of pictures."""

import base64
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from cp2.plan.graph import Plan
from cp2.record.mlflow_links import read_links
from cp2.reporting.claims.judge import (
    RULE,
    ClaimView,
    count_verdicts,
    inconsistencies,
    ours_difference,
)
from cp2.reporting.figures.drawing import DPI, ReportFigure
from cp2.reporting.formats import EXTRA_MARK, write_changed
from cp2.reporting.page_tables import Sources, shown_numbers, shown_provenance
from cp2.reporting.provenance import RunRecord, remake_command
from cp2.reporting.recipes import published_settings, recipe_text
from cp2.reporting.tables import TableView
from cp2.settings.load import Configuration
from cp2.stages import STAGES

PICTURES = "pictures.html"
CSS_DPI = 96
LARGE = 300_000  # bytes of a PNG of pictures above which the page holds a JPEG instead
SCALES = {
    "demo": "Demo scale: small models on a built-in world. It shows that the pipeline works; "
    "its numbers say nothing about the methods.",
    "mini": "Mini scale: small models on photographs. Its numbers do not compare with the paper's.",
    "paper": "Paper scale: the published settings; numbers compare with the published ones.",
}


def render_page(
    configuration: Configuration,
    plan: Plan,
    views: Sequence[TableView],
    figures: Sequence[ReportFigure],
    records: dict[str, RunRecord],
    claims: Sequence[ClaimView],
) -> str:
    """The main page as HTML text: overview, tables, provenance, claims, drawings."""
    drawings = [figure for figure in figures if not figure.pictures]
    sources = Sources(
        configuration,
        plan,
        records,
        published_settings(configuration),
        read_links(configuration.reports),
    )
    progress = _progress(plan, configuration.results)
    return _rendered(
        "report.html.j2",
        configuration,
        seeds=configuration.campaign.seeds,
        progress=progress,
        nothing=not any(stage["done"] for stage in progress),
        shared=plan.requested - len(plan.runs),
        command=remake_command(configuration, []),
        tables=[
            shown_numbers(view)
            | {
                "provenance": shown_provenance(sources, view),
                "figures": [embedded(one) for one in drawings if one.table == view.name],
            }
            for view in views
        ],
        figures=[embedded(figure) for figure in drawings if figure.table is None],
        pictures=[figure.title for figure in figures if figure.pictures],
        pictures_page=PICTURES,
        claims=[_claim(view) for view in claims],
        verdicts=count_verdicts(claims),
        inconsistencies=inconsistencies(claims),
        claims_rule=RULE,
        details=_run_details(plan, records),
    )


def render_pictures(configuration: Configuration, figures: Sequence[ReportFigure]) -> str:
    """The page of pictures: predictions, composed training images, masks."""
    pictures = [embedded(figure) for figure in figures if figure.pictures]
    return _rendered("pictures.html.j2", configuration, figures=pictures)


def write_table_page(configuration: Configuration, view: TableView, folder: Path) -> None:
    """Write <folder>/<table>.html: a small page for Snakemake's report and to put into others."""
    text = _rendered("table_page.html.j2", configuration, table=shown_numbers(view))
    write_changed(folder / f"{view.name}.html", text)


@cache
def _templates() -> Environment:
    """The templates; all that they print is escaped."""
    return Environment(
        loader=PackageLoader("cp2.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _rendered(template: str, configuration: Configuration, **content: Any) -> str:
    """A page, with what all pages say at their heads."""
    campaign = configuration.campaign
    return (
        _templates()
        .get_template(template)
        .render(
            title=campaign.title,
            name=campaign.name,
            scale=campaign.scale,
            scale_text=SCALES[campaign.scale],
            extra_mark=EXTRA_MARK,
            **content,
        )
    )


def embedded(figure: ReportFigure) -> dict[str, Any]:
    """What a template shows of a figure: a drawing as SVG, pictures as PNG or JPEG.

    Links are relative to the page's folder.
    """
    with Image.open(figure.png, formats=("PNG",)) as image:
        width = image.width
    uri = _uri("svg+xml", figure.svg.read_bytes()) if figure.svg else _raster(figure.png)
    return {
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "uri": uri,
        "width": round(width * CSS_DPI / DPI),
        "png": f"figures/{figure.png.name}",
        "svg": f"figures/{figure.svg.name}" if figure.svg else None,
    }


def _raster(png: Path) -> str:
    if png.stat().st_size <= LARGE:
        return _uri("png", png.read_bytes())
    buffer = io.BytesIO()
    with Image.open(png, formats=("PNG",)) as image:
        image.convert("RGB").save(buffer, format="JPEG", quality=88)
    return _uri("jpeg", buffer.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _progress(plan: Plan, results: Path) -> list[dict[str, Any]]:
    """Runs done and planned of each stage that the plan has."""
    stages = []
    for stage in STAGES:
        runs = list(plan.stage(stage))
        if runs:
            done = sum(run.is_done(results) for run in runs)
            stages.append({"name": stage, "done": done, "planned": len(runs)})
    return stages


def _run_details(plan: Plan, records: dict[str, RunRecord]) -> dict[str, Any]:
    """What provenance opens on demand; runs of a cell differ in nothing but the seed, so that
    each recipe is held once."""
    numbers: dict[str, int] = {}
    recipes: list[str] = []
    runs = {}
    for key, record in records.items():
        known = plan.runs[key].recipe.model_dump_json()
        if known not in numbers:
            numbers[known] = len(recipes)
            recipes.append(recipe_text(plan.runs[key]))
        runs[key] = {"recipe": numbers[known], "log": record.log, "problem": record.problem}
    return {"recipes": recipes, "runs": runs}


def _claim(view: ClaimView) -> dict[str, Any]:
    return {
        "id": view.claim.id,
        "statement": view.claim.statement,
        "source": view.claim.place,
        "published": view.claim.published,
        "ours": [ours_difference(one) for one in view.measured],
        "verdict": view.verdict,
        "reason": view.reason,
    }

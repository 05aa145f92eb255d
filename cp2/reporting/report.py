"""The entries of this room: everything under reports/<campaign>/."""

from pathlib import Path

from cp2.errors import UserError
from cp2.plan.graph import Plan
from cp2.record.files import write_text
from cp2.reporting.claims.judge import claims_markdown, view_claims
from cp2.reporting.claims.read import read_claims
from cp2.reporting.figures.report_figures import write_figures
from cp2.reporting.formats import markdown, write_formats
from cp2.reporting.page import PICTURES, render_page, render_pictures, write_table_page
from cp2.reporting.provenance import read_records
from cp2.reporting.tables import TableView, view_tables
from cp2.settings.claims import read_orderings
from cp2.settings.load import Configuration
from cp2.settings.messages import nearest
from cp2.tables.published import PUBLISHED


def write_report(
    configuration: Configuration,
    plan: Plan,
    published_folder: Path = PUBLISHED,
) -> Path:
    """Write tables, figures and the pages; partial results give a partial report that says so.

    Returns:
        Path of the main page, <reports>/<campaign>/index.html; pictures.html lies beside it.
    Raises:
        WrongFile: a record of a run or a published CSV is damaged.
        UserError: the disk is full.
    """
    folder = configuration.reports
    views = view_tables(configuration, plan, published_folder)
    for view in views:
        _write_table(configuration, view)
    figures = write_figures(plan, views, configuration.results, folder / "figures")
    records = read_records(configuration, plan)
    claims = view_claims(
        read_claims(published_folder),
        read_orderings(published_folder),
        views,
        configuration.campaign.scale,
    )
    if claims:
        title = markdown(configuration.campaign.title)
        write_text(folder / "claims.md", claims_markdown(claims, title))
    page = folder / "index.html"
    write_text(folder / PICTURES, render_pictures(configuration, figures))
    write_text(page, render_page(configuration, plan, views, figures, records, claims))
    return page


def write_table(
    configuration: Configuration,
    plan: Plan,
    name: str,
    published_folder: Path = PUBLISHED,
) -> Path:
    """Write one table as Markdown, CSV, LaTeX and HTML; returns the Markdown file's path.

    Raises:
        UserError: the campaign has no such table.
        WrongFile: a record of a run or a published CSV is damaged.
    """
    if name not in plan.tables:
        raise UserError(
            f"no table {name!r} in campaign {configuration.campaign.name!r}; "
            f"{nearest(name, plan.tables)}"
        )
    (view,) = view_tables(configuration, plan, published_folder, [name])
    return _write_table(configuration, view)


def _write_table(configuration: Configuration, view: TableView) -> Path:
    folder = configuration.reports / "tables"
    write_table_page(configuration, view, folder)
    return write_formats(view, folder)

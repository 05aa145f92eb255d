"""The one entry of this room: everything under reports/<campaign>/."""

from pathlib import Path

from cp2.plan.graph import Plan
from cp2.record.files import write_text
from cp2.reporting.figures import write_figures
from cp2.reporting.formats import write_table
from cp2.reporting.page import render_page
from cp2.reporting.provenance import read_records
from cp2.reporting.tables import view_tables
from cp2.settings.load import Configuration


def write_report(
    configuration: Configuration,
    plan: Plan,
    published_folder: Path = Path("reports/published"),
) -> Path:
    """Write tables, figures and the page; partial results give a partial report that says so.

    Returns:
        Path of the page, <reports>/<campaign>/index.html.
    Raises:
        WrongFile: a record of a run or a published CSV is damaged.
        UserError: the disk is full.
    """
    folder = configuration.reports
    views = view_tables(configuration, plan, published_folder)
    for view in views:
        write_table(view, folder / "tables")
    figures = write_figures(plan, views, configuration.results, folder / "figures")
    records = read_records(configuration, plan)
    page = folder / "index.html"
    write_text(page, render_page(configuration, plan, views, figures, records))
    return page

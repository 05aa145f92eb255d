"""Planned tables filled with the scores of the runs that are done, beside the published numbers."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from cp2.plan.graph import Plan, PlannedTable
from cp2.plan.protocols import protocol_of
from cp2.plan.recipes import PretrainRecipe
from cp2.record.metrics import collapse
from cp2.record.tail import last_metrics
from cp2.settings.based_files import read_method
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.load import Configuration
from cp2.settings.tables import Column, Row, TableSettings
from cp2.tables.frame import CellScores, cell_frame, cells_of, score_frame
from cp2.tables.published import PUBLISHED


@dataclass(frozen=True, eq=False)
class TableView:
    """A table ready to be printed.

    Attributes:
        frame: its lines of `cell_frame`.
        protocol: how its numbers are got, in one line.
        batches: sentences about batch sizes that differ from the published.
    """

    settings: TableSettings
    frame: pd.DataFrame
    scale: str
    protocol: str = ""
    batches: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def unit(self) -> str:
        """Of all its numbers."""
        return str(self.frame["unit"].iloc[0])

    @cached_property
    def cells(self) -> dict[tuple[str, str], CellScores]:
        """By (row name, column name)."""
        return cells_of(self.frame)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Those that the campaign selects."""
        named = {row.name: row for row in self.settings.rows}
        return tuple(named[name] for name in self.frame.index.unique("row"))

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Those that the campaign selects."""
        named = {column.name: column for column in self.settings.columns}
        return tuple(named[name] for name in self.frame.index.unique("column"))

    @property
    def has_published(self) -> bool:
        return bool(self.frame["published"].notna().any())

    @property
    def at_paper_scale(self) -> bool:
        return self.scale == "paper"


def view_tables(
    configuration: Configuration,
    plan: Plan,
    published_folder: Path = PUBLISHED,
    names: Iterable[str] | None = None,
) -> list[TableView]:
    """Tables of a plan (all, or those with these names), filled with what is done so far.

    Raises:
        WrongFile: a published CSV is damaged.
    """
    cells = cell_frame(score_frame(configuration, plan, published_folder, names))
    return [
        _view(configuration, plan, plan.tables[str(name)], lines)
        for name, lines in cells.groupby("table", sort=False)
    ]


def _view(
    configuration: Configuration, plan: Plan, planned: PlannedTable, lines: pd.DataFrame
) -> TableView:
    settings = configuration.table(planned.name)
    batches = batch_notes(plan, planned, configuration.configs)
    batches += collapse_notes(plan, planned, configuration.results)
    view = TableView(settings, lines, configuration.campaign.scale, batches=batches)
    return replace(view, protocol=_protocol_text(configuration, settings, view.columns))


def _protocol_text(
    configuration: Configuration, settings: TableSettings, columns: tuple[Column, ...]
) -> str:
    """What was done to get the numbers, in one line: protocol, head, schedule of each data set.

    The table's own protocol comes first, with the heads that it trains.
    """
    schedules: dict[str, dict[str, str]] = {}  # protocol -> data set -> schedule
    for column in columns:
        protocol = protocol_of(configuration, settings, column)
        known = schedules.setdefault(protocol.title, {})
        if column.dataset in protocol.datasets:
            known[configuration.used(column.dataset)] = protocol.schedule(column.dataset)
    own = configuration.protocol(settings.protocol)
    heads = [f"head {configuration.used(settings.head)}"] if settings.head else []
    heads += [f"{configuration.used(c.head)} for {c.name}" for c in columns if c.head]
    texts = []
    for title in sorted(schedules, key=lambda title: title != own.title):
        named = [title, *heads] if title == own.title and own.trains_head else [title]
        words = "; ".join(f"{name}: {words}" for name, words in schedules[title].items())
        texts.append(f"{', '.join(named)}; {words}")
    return ". ".join(texts)


def batch_notes(plan: Plan, planned: PlannedTable, configs: Path) -> tuple[str, ...]:
    """One sentence a method whose pretrainings here used another batch size than the published.

    The methods' files in `configs` have the published sizes. Micro-batches and the number of GPUs
    do not change what a step sees, so they are no matter here.
    """
    sizes = {}
    for run in plan.ancestors(planned.runs):
        if isinstance(run.recipe, PretrainRecipe):
            method = run.recipe.method
            published = _published_size(method, configs)
            if method.batch_size != published:
                sizes[method.title, method.batch_size] = published
    return tuple(
        f"{title} was pretrained here with batches of {size}; published: {published}."
        for (title, size), published in sizes.items()
    )


def collapse_notes(plan: Plan, planned: PlannedTable, results: Path) -> tuple[str, ...]:
    """One sentence a pretraining whose features had collapsed when it last logged."""
    runs = [run for run in plan.ancestors(planned.runs) if run.stage == "pretrain"]
    lines = {run.id: last_metrics(run.folder(results).metrics) or {} for run in runs}
    return tuple(f"{name}: {collapse(line)}." for name, line in lines.items() if collapse(line))


def _published_size(method: PretrainingSettings, configs: Path) -> int:
    """The method's batch size without a campaign's changes."""
    tree, _ = read_method(configs / "methods" / f"{method.name}.yaml")
    given = tree.get("batch_size")
    return int(given or type(method).model_fields["batch_size"].default)

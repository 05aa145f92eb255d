"""Planned tables filled with the scores of the runs that are done, beside the published numbers."""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cp2.errors import WrongFile
from cp2.plan.graph import Cell, Plan, PlannedTable, Run
from cp2.plan.recipes import PretrainRecipe
from cp2.record.readers import read_object, read_share, time_of
from cp2.reporting.batches import batch_notes
from cp2.reporting.obstacles import failed_file
from cp2.reporting.origins import Imported, imported_from, made_elsewhere
from cp2.reporting.published import Published, read_published
from cp2.settings.load import Configuration
from cp2.settings.tables import Column, FigureSettings, TableSettings


@dataclass(frozen=True)
class CellView:
    """One cell: our runs' values and the published number.

    Attributes:
        column: what is measured, on which data set.
        runs: keys of all planned evaluate runs, one a seed.
        scores: run key -> score in percent, of the runs that are done; "seed 0" where imported.
        published: the paper's number, None where it has none.
        gap: our mean minus the published value in points; None at another scale than the paper's.
        reason: why the cell was planned without runs; None where it has some.
        elsewhere: what of the number was made elsewhere; None where nothing was.
        imported: whose the number is where no pretraining of our own is behind it.
        failed: what is wrong with the missing runs' records, or which file that they need could
            not be had, and why.
    """

    row: str
    column: Column
    runs: tuple[str, ...]
    scores: dict[str, float]
    published: Published | None
    gap: float | None
    reason: str | None
    elsewhere: str | None = None
    imported: Imported | None = None
    failed: str | None = None

    @property
    def footnote(self) -> str | None:
        """Why there is no number, or on fewer runs for something damaged; what is not our own."""
        damaged = self.missing if self.failed and self.n else None
        return self.reason or "; ".join(filter(None, (damaged, self.elsewhere))) or None

    @property
    def planned(self) -> int:
        """Runs that the number should stand on; imported scores are what they are."""
        return len(self.runs) or self.n

    @property
    def n(self) -> int:
        return len(self.scores)

    @property
    def mean(self) -> float | None:
        return mean(list(self.scores.values()))

    @property
    def std(self) -> float | None:
        """Sample standard deviation (divisor n - 1); None below two runs."""
        return statistics.stdev(self.scores.values()) if self.n > 1 else None

    @property
    def missing(self) -> str | None:
        """Why there is no number, or why it stands on fewer runs than planned; None: complete."""
        if self.reason:
            return self.reason
        if self.n < self.planned:
            why = f"; {self.failed}" if self.failed else ""
            return f"not done: {self.n} of {self.planned} runs{why}"
        return None


@dataclass(frozen=True)
class RowView:
    """A row's name, whether the published table has it, and its coordinates in the figure."""

    name: str
    extra: bool
    at: dict[str, float]


@dataclass(frozen=True)
class TableView:
    """A table ready to be printed; `cells` is keyed by (row name, column name)."""

    name: str
    title: str
    source: str
    note: str
    protocol: str
    scale: str
    rows: tuple[RowView, ...]
    columns: tuple[Column, ...]
    cells: dict[tuple[str, str], CellView]
    has_published: bool
    published: str | None = None  # stem of its CSV in reports/published/
    figure: FigureSettings | None = None
    unit: Literal["percent", "seconds"] = "percent"
    axes: tuple[str, ...] = ()  # coordinates of the rows that the figure draws along
    batches: tuple[str, ...] = ()  # sentences about batch sizes that differ from the published

    @property
    def at_paper_scale(self) -> bool:
        return self.scale == "paper"

    @property
    def done(self) -> bool:
        return all(cell.missing is None for cell in self.cells.values())


def mean(values: list[float]) -> float | None:
    """Arithmetic mean, None for no values."""
    return math.fsum(values) / len(values) if values else None


def view_tables(
    configuration: Configuration, plan: Plan, published_folder: Path
) -> list[TableView]:
    """All tables of a plan, filled with what is done so far.

    Raises:
        WrongFile: a published CSV is damaged.
    """
    return [
        view_table(configuration, plan, planned, published_folder)
        for planned in plan.tables.values()
    ]


def read_seconds_per_epoch(run: Run, results: Path) -> float:
    """Wall-clock time of a pretraining, over all its attempts, an epoch.

    Raises:
        WrongFile: its done.json has no time.
    """
    assert isinstance(run.recipe, PretrainRecipe)
    path = run.folder(results).done
    seconds = time_of(path, read_object(path), "seconds")
    if not seconds:
        raise WrongFile(f"{path}: seconds: is 0; delete the folder and pretrain again")
    return seconds / run.recipe.epochs


def view_table(
    configuration: Configuration, plan: Plan, planned: PlannedTable, published_folder: Path
) -> TableView:
    """One planned table, filled with what is done so far.

    Raises:
        WrongFile: the published CSV is damaged.
    """
    settings = configuration.table(planned.name)
    published: dict[tuple[str, str], Published] = {}
    if settings.published:
        published = read_published(published_folder, settings.published)
    columns = {column.name: column for column in settings.columns}
    scale = configuration.campaign.scale
    cells = {}
    for cell in planned.cells:
        number = published.get((cell.row, cell.column))
        cells[cell.row, cell.column] = _view_cell(
            configuration, plan, settings.released, cell, columns[cell.column], number, scale
        )
    shown = tuple(columns[name] for name in dict.fromkeys(c.column for c in planned.cells))
    rows = {row.name: row for row in settings.rows}
    return TableView(
        name=settings.name,
        title=settings.title,
        source=settings.source,
        note=settings.note,
        protocol=_protocol_text(configuration, settings, shown),
        scale=scale,
        rows=tuple(
            RowView(name, rows[name].extra, rows[name].at)
            for name in dict.fromkeys(c.row for c in planned.cells)
        ),
        columns=shown,
        cells=cells,
        has_published=any(cell.published for cell in cells.values()),
        published=settings.published,
        figure=settings.figure,
        unit=settings.unit,
        axes=settings.axes,
        batches=batch_notes(plan, planned, configuration.configs),
    )


def _view_cell(
    configuration: Configuration,
    plan: Plan,
    released: bool,
    cell: Cell,
    column: Column,
    published: Published | None,
    scale: str,
) -> CellView:
    results = configuration.results
    scores = {}
    if cell.imported:
        names = (f"seed {seed}" for seed in cell.imported.seeds)
        scores = dict(zip(names, cell.imported.values, strict=True))
    damaged: dict[str, None] = {}
    for key in cell.runs:
        run = plan.runs[key]
        if run.is_done(results):
            try:
                scores[key] = _read_number(run, column.metric, results)
            except WrongFile as error:
                damaged[str(error)] = None
    ours = mean(list(scores.values()))
    timed = column.metric == "seconds_per_epoch"  # on another device: not to be compared
    comparable = scale == "paper" and not timed and published is not None and ours is not None
    gap = ours - published.value if comparable and published and ours is not None else None
    return CellView(
        cell.row,
        column,
        cell.runs,
        scores,
        published,
        gap,
        cell.missing,
        made_elsewhere(plan, cell, results),
        imported_from(plan, cell, released),
        _why_missing(plan, cell, results, damaged) if len(scores) < len(cell.runs) else None,
    )


def _read_number(run: Run, metric: str, results: Path) -> float:
    if metric == "seconds_per_epoch":
        return read_seconds_per_epoch(run, results)
    return 100 * read_share(run.folder(results).scores, metric)


def _why_missing(plan: Plan, cell: Cell, results: Path, damaged: dict[str, None]) -> str | None:
    """Damaged records, and a file that could not be had."""
    failed = failed_file(plan, cell, results)
    return "; ".join([*damaged, *([failed] if failed else [])]) or None


def _protocol_text(
    configuration: Configuration, settings: TableSettings, columns: tuple[Column, ...]
) -> str:
    """What was done to get the numbers, in one line: protocol, head, schedule of each data set."""
    protocol = configuration.protocol(settings.protocol)
    schedules = []
    for name in dict.fromkeys(column.dataset for column in columns):
        if name in protocol.datasets:
            schedule = protocol.datasets[name]
            here = configuration.used(name)
            schedules.append(f"{here}: {schedule.iterations:,} iterations of {schedule.batch_size}")
    heads = [f"head {configuration.used(settings.head)}"]
    heads += [f"{configuration.used(c.head)} for {c.name}" for c in columns if c.head]
    return f"{protocol.title}, {', '.join(heads)}; " + "; ".join(schedules)

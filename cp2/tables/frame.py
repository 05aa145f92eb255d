"""One frame of all scores: tables, figures, claims, MLflow's rows and a notebook start from it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cp2.errors import WrongFile
from cp2.plan.graph import Cell, Plan, Run
from cp2.plan.places import Places
from cp2.plan.protocols import metric_of
from cp2.plan.recipes import PretrainRecipe
from cp2.record.readers import check_owner, read_object, read_score, time_of
from cp2.settings.load import Configuration
from cp2.settings.metrics import SECONDS_PER_EPOCH, Metric
from cp2.settings.tables import TableSettings
from cp2.tables.external import external_note, failed_file, imported_from
from cp2.tables.published import NUMBERS, PUBLISHED, read_published

CELL = ["table", "row", "column"]  # what a cell is known by
COLUMNS = {
    "table": "name, as in configs/tables/",
    "row": "of the table",
    "column": "of the table",
    "dataset": "that the score is of",
    "metric": "as in scores.json",
    "unit": "of value: percent, seconds",
    "digits": "of value that are printed, after the point",
    "label_fraction": "share of the labels; NaN: as in the protocol",
    "scale": "of the campaign: paper, mini, demo",
    "run": "key of the run that was scored; none of imported scores and of cells without runs",
    "seed": "of that run",
    "pretrain_seed": "of the pretraining that it starts from",
    "value": "the score; NaN where it is not there (yet)",
    "planned": "whether a value is there or to come",
    "reason": "why the cell has no runs",
    "problem": "what is wrong with the run's record, or a file that it needs and why it failed",
    "elsewhere": "what of the number was made elsewhere",
    "imported": "imported scores, imported weights: whose the number is if not ours",
    "published_table": "name of the CSV in reports/published/",
    "published": "the paper's number for the cell",
    "published_std": "its deviation, as printed",
    "published_spread": "deviation of one run: as printed, else as printed for that data set",
    "published_error": "standard error of the paper's number",
    "published_count": "runs that its deviation is over; NaN: not said, or none is printed",
    "printed": "the paper's number as text, with deviation and count",
}
_OF_RUN = ("run", "seed", "pretrain_seed", "value", "planned", "problem")
_TEXTS = ["reason", "elsewhere", "imported", "printed"]  # "" where there is none
_OF_CELL = [name for name in COLUMNS if name not in (*CELL, *_OF_RUN)]
_TYPES: Any = {"seed": "Int64", "pretrain_seed": "Int64", "value": float, "label_fraction": float}


def score_frame(
    configuration: Configuration,
    plan: Plan,
    published_folder: Path = PUBLISHED,
    tables: Iterable[str] | None = None,
) -> pd.DataFrame:
    """A line a planned run (or imported score) of each cell, one a cell without runs.

    Its columns are `COLUMNS`, in the order of the tables, their rows and columns and the seeds.

    Args:
        tables: names of the campaign's tables; None: all.
    Raises:
        WrongFile: a published CSV is damaged. Damaged records of runs are named in `problem`.
    """
    names = list(plan.tables if tables is None else tables)
    settings = {name: configuration.table(name) for name in names}
    lines = [
        line
        for name in names
        for cell in plan.tables[name].cells
        for line in _cell_lines(configuration, plan, settings[name], cell)
    ]
    frame = pd.DataFrame(lines, columns=list(COLUMNS)).drop(columns=list(NUMBERS))
    stems = {one.published for one in settings.values() if one.published}
    numbers = read_published(published_folder, stems)
    keys = ["published_table", "row", "column"]
    return frame.astype(_TYPES).join(numbers, on=keys)[list(COLUMNS)]


def _cell_lines(
    configuration: Configuration, plan: Plan, table: TableSettings, cell: Cell
) -> Iterator[dict[str, Any]]:
    results = configuration.results
    column = next(one for one in table.columns if one.name == cell.column)
    metric = metric_of(configuration, table, column)
    common = {
        "table": table.name,
        "row": cell.row,
        "column": column.name,
        "dataset": column.dataset,
        "metric": metric.name,
        "unit": metric.unit,
        "digits": metric.digits,
        "label_fraction": column.label_fraction,
        "scale": configuration.campaign.scale,
        "reason": cell.missing,
        "elsewhere": external_note(plan, cell, results),
        "imported": imported_from(plan, cell, table.released),
        "published_table": table.published,
    }
    if cell.imported:
        for seed, score in zip(cell.imported.seeds, cell.imported.values, strict=True):
            yield common | {"seed": seed, "value": score, "planned": True}
    elif not cell.runs:
        yield common | {"planned": False}
    failed = failed_file(plan, cell, results)
    places = Places(plan)
    for run in (plan.runs[key] for key in cell.runs):
        origin = run if run.stage == "pretrain" else places.pretraining_of(run)
        value, problem = _value(run, metric, results)
        yield common | {
            "run": run.key,
            "seed": run.seed,
            "pretrain_seed": origin.seed if origin else None,
            "value": value,
            "planned": True,
            "problem": problem or (failed if value is None else None),
        }


def _value(run: Run, metric: Metric, results: Path) -> tuple[float | None, str | None]:
    """A run's score in the metric's unit, or what is wrong with it; neither: it is not done."""
    if not run.is_done(results):
        return None, None
    try:
        if metric == SECONDS_PER_EPOCH:
            return seconds_per_epoch(run, results), None
        return metric.scale * read_score(run.folder(results).scores, metric, run.id), None
    except WrongFile as error:
        return None, str(error)


def seconds_per_epoch(run: Run, results: Path) -> float:
    """Wall-clock time of a pretraining, over all its attempts, an epoch.

    Raises:
        WrongFile: its done.json has no time.
    """
    assert isinstance(run.recipe, PretrainRecipe)
    check_owner(run.folder(results).recipe, run.id)
    path = run.folder(results).done
    seconds = time_of(path, read_object(path), "seconds")
    if not seconds:
        raise WrongFile(f"{path}: seconds: is 0; delete the folder and pretrain again")
    return seconds / run.recipe.epochs


def summarize(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Number, mean and sample deviation of `value` in each group, in the order of appearance.

    Returns:
        Indexed by the columns `by`: n; mean, NaN where n is 0; std (divisor n - 1), NaN below two.
    """
    values: Any = frame.groupby(list(by), sort=False)["value"]
    return values.agg(n="count", mean="mean", std="std")


def cell_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A line a cell, indexed by table, row and column: what its lines in the frame share, and

    n, planned: values that are there, and that the number should stand on.
    mean, std: over the values, as in `summarize`.
    gap: mean minus the published number, at the paper's scale; not of times on another device.
    missing: why there is no number, or why it stands on fewer runs than planned; "": complete.
    footnote: why there is no number, or fewer runs for something damaged; what is not our own.
    values, runs, done: the values, all planned runs, and those of them that have a value.
    pretrainings: mean value of each pretraining that has one.
    """
    frame = frame.assign(done=frame["run"].where(frame["value"].notna()))
    grouped = frame.groupby(CELL, sort=False)
    cells = grouped[_OF_CELL].first().join(summarize(frame, CELL))
    cells["planned"] = grouped["planned"].sum().astype(int)
    for name, source in (("values", "value"), ("runs", "run"), ("done", "done")):
        cells[name] = grouped[source].agg(_known)
    means = frame.groupby([*CELL, "pretrain_seed"], sort=False)["value"].mean()
    cells["pretrainings"] = means.groupby(CELL, sort=False).agg(_known)
    cells["pretrainings"] = cells["pretrainings"].map(lambda known: known if known == known else ())
    comparable = (cells["scale"] == "paper") & (cells["unit"] != SECONDS_PER_EPOCH.unit)
    cells["gap"] = (cells["mean"] - cells["published"]).where(comparable)
    cells[_TEXTS] = cells[_TEXTS].fillna("")
    problems = grouped["problem"].agg(lambda texts: "; ".join(texts.dropna().unique()))
    missing: list[str] = []
    footnotes: list[str] = []
    lines: Any = cells.itertuples()
    for cell, problem in zip(lines, problems, strict=True):
        short = ""
        if cell.n < cell.planned:
            short = "; ".join(filter(None, [f"not done: {cell.n} of {cell.planned} runs", problem]))
        damage = short if problem and cell.n else ""
        missing.append(cell.reason or short)
        footnotes.append(cell.reason or "; ".join(filter(None, [damage, cell.elsewhere])))
    return cells.assign(missing=missing, footnote=footnotes)


def _known(column: pd.Series) -> Any:
    return tuple(column.dropna())


@dataclass(frozen=True)
class CellScores:
    """One line of `cell_frame` with None in place of NaN; `scores`: run key -> value, if done."""

    row: str
    column: str
    unit: str
    digits: int
    n: int
    planned: int
    mean: float | None
    std: float | None
    values: tuple[float, ...]
    pretrainings: tuple[float, ...]
    runs: tuple[str, ...]
    scores: dict[str, float]
    published: float | None
    published_spread: float | None
    published_error: float | None
    published_count: float | None
    printed: str
    gap: float | None
    reason: str
    missing: str
    footnote: str
    elsewhere: str
    imported: str


def cells_of(cells: pd.DataFrame) -> dict[tuple[str, str], CellScores]:
    """The cells of one table's lines of `cell_frame`, by (row, column)."""
    plain = cells.astype(object).where(cells.notna(), None).reset_index()
    found = {}
    for line in plain.to_dict("records"):
        scores = dict(zip(line["done"], line["values"], strict=False))
        known = {name: line[name] for name in CellScores.__annotations__ if name in line}
        found[line["row"], line["column"]] = CellScores(**known, scores=scores)
    return found

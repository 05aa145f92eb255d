"""Rows of tables -> MLflow's parent runs, with the mean of each cell's seeds."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from cp2.plan.graph import Run
from cp2.plan.places import Places, Row
from cp2.plan.recipes import EvaluateRecipe
from cp2.record.attempts import read_attempts
from cp2.record.digest import digest
from cp2.record.readers import read_object, read_scores, time_of
from cp2.tracking.content import (
    STAGES,
    Point,
    cost_points,
    origin_params,
    score_points,
)
from cp2.tracking.ledger import Entry
from cp2.tracking.parcel import ENDED
from cp2.tracking.run_import import TAG_KEY, TAG_STATE
from cp2.tracking.store import Store

_TAGS = ("method", "variant", "backbone", "head")


def create_row(
    store: Store, row: Row, places: Places, results: Path, common: dict[str, str]
) -> Entry:
    """The parent run of a row's seeds.

    Args:
        common: tags of all runs of the campaign.
    """
    tags = {"stage": "row", "table": row.table, "row": row.name, **common, TAG_KEY: row.key}
    scored = [places.plan.runs[key] for cell in places.cells[row] for key in cell.runs]
    for name in _TAGS:
        words = [places.tags(run).get(name) for run in scored]
        tags[name] = ", ".join(dict.fromkeys(filter(None, words)))
    return Entry(store.create(f"{row.name} · {row.table}", tags, _start(row, places, results)))


def _start(row: Row, places: Places, results: Path) -> float | None:
    """When the first of its runs was begun."""
    folders = [run.folder(results).path for run in places.runs[row] if run.stage in STAGES]
    first = [attempts[0].started for attempts in map(read_attempts, folders) if attempts]
    return min(first, default=None)


def import_row(
    store: Store,
    row: Row,
    places: Places,
    results: Path,
    entries: dict[str, Entry],
    begin: Callable[[], None],
) -> Entry | None:
    """Bring a row's status, scores and costs up to date; returns what is known of it from now on,
    None where nothing was new.

    `<split>/<data set>/<metric>` is the mean over the seeds that are done. Of a protocol's first
    metric, `.../std` is their standard deviation (n - 1), `.../n` their number.

    Raises:
        WrongFile: a score is damaged; nothing was sent.
    """
    known = entries[row.key]
    runs = [run for run in places.runs[row] if run.stage in STAGES]
    told = [(run.key, entries[run.key].state) for run in runs if run.key in entries]
    status = _status(runs, entries)
    state = digest([status, told])[:16]
    if (state, status) == (known.state, known.status):
        return None
    points = _scores(row, places, results, entries) + _costs(runs, results, entries)
    begin()
    params = {} if known.state else _params(row, places)
    store.log(known.mlflow_id, points, params, tags={TAG_STATE: state})
    if status != known.status:
        ended = status in ENDED
        store.end(known.mlflow_id, status, _last(points) if ended else None)
    return Entry(known.mlflow_id, status, state)


def _params(row: Row, places: Places) -> dict[str, str]:
    """The settings of the pretraining that a row's seeds share."""
    key = places.cells[row][0].runs[0]
    return origin_params(places.plan.runs[key], places)


def _status(runs: Sequence[Run], entries: dict[str, Entry]) -> str:
    words = [entries[run.key].status if run.key in entries else "SCHEDULED" for run in runs]
    order = ("RUNNING", "FAILED", "KILLED", "SCHEDULED")
    return next((word for word in order if word in words), "FINISHED")


def _scores(row: Row, places: Places, results: Path, entries: dict[str, Entry]) -> list[Point]:
    points = []
    for cell in places.cells[row]:
        found: dict[str, list[Point]] = defaultdict(list)
        first = ""
        for key in cell.runs:
            run = places.plan.runs[key]
            done = key in entries and entries[key].status == "FINISHED"
            if done and isinstance(run.recipe, EvaluateRecipe):
                first = run.recipe.metrics[0].name
                folder = run.folder(results)
                time = time_of(folder.done, read_object(folder.done), "finished")
                labels = run.tags.get("labels", "1")
                scores = read_scores(folder.scores, run.recipe.metrics)
                for point in score_points(scores, labels, time):
                    found[point.name].append(point)
        for name, seeds in found.items():
            points += _summary(name, seeds, spread=name.rsplit("/", 1)[-1] == first)
    return points


def _summary(name: str, seeds: Sequence[Point], spread: bool) -> list[Point]:
    """Mean and, if asked for, spread and number, all of step 0: MLflow draws these as bars.

    Of one step MLflow takes the value of the latest time, so more seeds are a little later.
    """
    values = [point.value for point in seeds]
    n = len(values)
    time = max(point.time for point in seeds) + n / 1000
    points = [Point(name, statistics.fmean(values), 0, time)]
    if spread:
        points.append(Point(f"{name}/n", n, 0, time))
        if n > 1:
            points.append(Point(f"{name}/std", statistics.stdev(values), 0, time))
    return points


def _costs(runs: Sequence[Run], results: Path, entries: dict[str, Entry]) -> list[Point]:
    """Sums over all runs that the row needs; runs that rows share count in each."""
    attempts = [
        attempt
        for run in runs
        if run.key in entries
        for attempt in read_attempts(run.folder(results).path)
    ]
    last = max((a.ended for a in attempts if a.ended is not None), default=0.0)
    return cost_points(attempts, last)


def _last(points: Sequence[Point]) -> float | None:
    return max((point.time for point in points), default=None)

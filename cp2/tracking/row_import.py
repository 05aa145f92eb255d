"""Rows of tables -> MLflow's parent runs, with mean and deviation over each cell's seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cp2.plan.graph import Run
from cp2.plan.places import Places, Row
from cp2.plan.recipes import EvaluateRecipe
from cp2.record.attempts import read_attempts
from cp2.stages import TRACKED
from cp2.tracking.content import Point, cost_points, origin_params
from cp2.tracking.snapshot import (
    ENDED,
    NO_LOG,
    RunSnapshot,
    Version,
    read_score_points,
    state_of,
)
from cp2.tracking.store import Store
from cp2.tracking.sync import TAG_KEY, SyncState

_TAGS = ("method", "variant", "backbone", "head")
_Runs = Mapping[str, SyncState] | Mapping[str, RunSnapshot]


def create_row(
    store: Store, row: Row, places: Places, results: Path, common: dict[str, str]
) -> SyncState:
    """The parent run of a row's seeds.

    Args:
        common: tags of all runs of the campaign.
    """
    tags = {"stage": "row", "table": row.table, "row": row.name, **common, TAG_KEY: row.key}
    scored = [places.plan.runs[key] for cell in places.cells[row] for key in cell.runs]
    for name in _TAGS:
        words = [places.tags(run).get(name) for run in scored]
        tags[name] = ", ".join(dict.fromkeys(filter(None, words)))
    attempts = map(read_attempts, (run.folder(results).path for run in _runs(row, places)))
    started = min((some[0].started for some in attempts if some), default=None)
    return SyncState(store.create(f"{row.name} · {row.table}", tags, started))


def row_now(row: Row, places: Places, runs: _Runs) -> Version:
    """A row's version, which follows from those of its runs.

    Args:
        runs: by key, those that there are.
    """
    keys = [run.key for run in _runs(row, places)]
    words = {runs[key].version.status if key in runs else "SCHEDULED" for key in keys}
    order = ("RUNNING", "FAILED", "KILLED", "SCHEDULED")
    status = next((word for word in order if word in words), "FINISHED")
    told = [(key, runs[key].version.state) for key in keys if key in runs]
    return Version(status, state_of([status, told]), NO_LOG)


def import_row(
    store: Store,
    row: Row,
    known: SyncState,
    places: Places,
    results: Path,
    states: Mapping[str, SyncState],
) -> SyncState:
    """Bring a row's status, scores and costs up to date.

    `<split>/<data set>/<metric>` is the mean over the seeds that are done. Of a protocol's first
    metric, `.../std` is their standard deviation (n - 1), `.../n` their number.

    Raises:
        WrongFile: a score is damaged; nothing was sent.
    """
    version = row_now(row, places, states)
    if known.matches(version, None):
        return known
    runs = [run for run in _runs(row, places) if run.key in states]
    costs = cost_points([a for run in runs for a in read_attempts(run.folder(results).path)])
    points = _scores(row, places, results, states) + costs
    first = places.plan.runs[places.cells[row][0].runs[0]]
    params = {} if known.version.state else origin_params(first, places)
    sync = SyncState(known.mlflow_id, version, values=known.values_after(points))
    store.log(known.mlflow_id, known.changed(points), params, sync.tags)
    if version.status != known.version.status:
        ended = max((point.time for point in points), default=None)
        store.end(known.mlflow_id, version.status, ended if version.status in ENDED else None)
    return sync


def _runs(row: Row, places: Places) -> list[Run]:
    """All runs that a row needs; those that rows share are of each."""
    return [run for run in places.runs[row] if run.stage in TRACKED]


def _scores(
    row: Row, places: Places, results: Path, states: Mapping[str, SyncState]
) -> list[Point]:
    """Mean, deviation and number of seeds of each score of each cell.

    All are of step 0: MLflow draws these as bars. Of one step it takes the value of the latest
    time, so more seeds are a little later.
    """
    scored = []
    for number, cell in enumerate(places.cells[row]):
        for run in (places.plan.runs[key] for key in cell.runs):
            done = run.key in states and states[run.key].version.status == "FINISHED"
            if done and isinstance(run.recipe, EvaluateRecipe):
                first = f"/{run.recipe.metrics[0].name}"
                found = read_score_points(run, results)
                scored += [(number, *point, point.name.endswith(first)) for point in found]
    if not scored:
        return []
    import pandas as pd  # half a second, which an import without scores need not wait for

    from cp2.tables.frame import summarize

    frame: Any = pd.DataFrame(scored, columns=["cell", *Point._fields, "first"])
    by = ["cell", "name", "first"]
    groups = summarize(frame, by)
    groups["time"] = frame.groupby(by)["time"].max() + groups["n"] / 1000
    points = []
    for (_, name, first), n, mean, std, time in groups.itertuples():
        points.append(Point(name, mean, 0, time))
        points += [Point(f"{name}/n", n, 0, time)] if first else []
        points += [Point(f"{name}/std", std, 0, time)] if first and n > 1 else []
    return points

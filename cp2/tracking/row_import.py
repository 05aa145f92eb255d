"""Rows of tables -> MLflow's parent runs, with mean and deviation over each cell's seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cp2.plan.graph import Run
from cp2.plan.places import Places, Row
from cp2.plan.recipes import EvaluateRecipe
from cp2.record.attempts import read_attempts
from cp2.tracking.content import STAGES, Point, cost_points, origin_params
from cp2.tracking.snapshot import ENDED, RunSnapshot, read_score_points, row_state
from cp2.tracking.store import Store
from cp2.tracking.sync import NO_LOG, TAG_KEY, SyncState

_TAGS = ("method", "variant", "backbone", "head")
_States = Mapping[str, SyncState] | Mapping[str, RunSnapshot]  # of runs, by key


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


def look_at_row(row: Row, places: Places, states: _States) -> tuple[str, str, int]:
    """A row's status, state and size of log (none), which follow from those of its runs."""
    runs = _runs(row, places)
    words = [states[run.key].status if run.key in states else "SCHEDULED" for run in runs]
    order = ("RUNNING", "FAILED", "KILLED", "SCHEDULED")
    status = next((word for word in order if word in words), "FINISHED")
    told = [(run.key, states[run.key].state) for run in runs if run.key in states]
    return status, row_state(status, told), NO_LOG


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
    look = look_at_row(row, places, states)
    if known.tells(*look):
        return known
    status, state, _ = look
    runs = [run for run in _runs(row, places) if run.key in states]
    costs = cost_points([a for run in runs for a in read_attempts(run.folder(results).path)])
    points = _scores(row, places, results, states) + costs
    first = places.plan.runs[places.cells[row][0].runs[0]]
    params = {} if known.state else origin_params(first, places)
    sync = SyncState(known.mlflow_id, status, state)
    store.log(known.mlflow_id, points, params, sync.tags)
    if status != known.status:
        ended = max((point.time for point in points), default=None)
        store.end(known.mlflow_id, status, ended if status in ENDED else None)
    return sync


def _runs(row: Row, places: Places) -> list[Run]:
    """All runs that a row needs; those that rows share are of each."""
    return [run for run in places.runs[row] if run.stage in STAGES]


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
            done = run.key in states and states[run.key].status == "FINISHED"
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

"""One run's records -> one MLflow run, sending only what MLflow does not have."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cp2.plan.graph import Run
from cp2.record.files import read_json
from cp2.record.folder import RunFolder
from cp2.tracking.content import Point, params, points_by_step, score_points, tags

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun
    from mlflow.tracking import MlflowClient

TAG_KEY = "cp2.run_id"  # "<stage>/<run id>"
TAG_STEP = "cp2.last_step"  # the last step that was sent ...
TAG_TIME = "cp2.last_time"  # ... and when it was made, to notice that a run was made again
TAG_FINISHED = "cp2.finished"  # done.json's time: scores and pictures of this end were sent
_BATCH = 1000  # metric points a request, MLflow's limit
_PARAM_BATCH = 100  # MLflow's limit


@dataclass(frozen=True)
class Sent:
    """What was sent for one run, and the id that MLflow gave it."""

    mlflow_id: str
    created: bool
    points: int


def import_run(
    client: "MlflowClient",
    experiment_id: str,
    run: Run,
    folder: RunFolder,
    tables: str,
    known: "MlflowRun | None",
    finetune: str | None = None,
) -> Sent:
    """Bring MLflow's copy of a run up to date.

    `finetune` is MLflow's id of the finetuning that an evaluation scores: it gets the scores, too.

    A run whose sent steps were made again with other values (MLflow cannot take points back) is
    deleted there and sent anew.
    """
    finished = read_json(folder.done)["finished"] if folder.is_done() else None
    if known and known.data.tags.get(TAG_FINISHED) == str(finished):
        _set_tags(client, known, tags(run, folder, tables))
        return Sent(known.info.run_id, False, 0)
    steps = points_by_step(folder)
    if known and _made_again(known, steps):
        client.delete_run(known.info.run_id)
        known = None
    created = known is None
    if known is None:
        known = _create(client, experiment_id, run, folder, steps)
    run_id = known.info.run_id
    _set_tags(client, known, tags(run, folder, tables))
    last_step = int(known.data.tags.get(TAG_STEP, -1))
    sent = _send_steps(client, run_id, {s: p for s, p in steps.items() if s > last_step})
    if finished is not None:
        sent += _finish(client, run_id, run, folder, finished, finetune)
    elif known.info.status != "RUNNING":  # made again since it was finished
        client.update_run(run_id, status="RUNNING")
    return Sent(run_id, created, sent)


def _create(
    client: "MlflowClient",
    experiment_id: str,
    run: Run,
    folder: RunFolder,
    steps: dict[int, list[Point]],
) -> "MlflowRun":
    from mlflow.entities import Param

    times = [point.time for points in steps.values() for point in points]
    if folder.environment.is_file():
        times.append(float(read_json(folder.environment).get("started", float("inf"))))
    start = min((t for t in times if t != float("inf")), default=None)
    made = client.create_run(
        experiment_id,
        start_time=None if start is None else _milliseconds(start),
        tags={TAG_KEY: run.key},
        run_name=run.id,
    )
    values = [Param(key, value) for key, value in params(folder).items()]
    for begin in range(0, len(values), _PARAM_BATCH):
        client.log_batch(made.info.run_id, params=values[begin : begin + _PARAM_BATCH])
    client.log_artifact(made.info.run_id, str(folder.recipe))
    return made


def _made_again(known: "MlflowRun", steps: dict[int, list[Point]]) -> bool:
    """Whether the file now tells another story of the steps that were sent.

    An attempt that goes on from a save before the last sent step is given time to reach it again.
    """
    last_step = int(known.data.tags.get(TAG_STEP, -1))
    if last_step < 0 or not any(step >= last_step for step in steps):
        return False
    points = steps.get(last_step)
    return not points or str(points[0].time) != known.data.tags.get(TAG_TIME)


def _send_steps(client: "MlflowClient", run_id: str, steps: dict[int, list[Point]]) -> int:
    """Send whole steps in batches; each batch moves the tag of the last step."""
    from mlflow.entities import Metric, RunTag

    sent = 0
    for batch in _batches([points for _, points in sorted(steps.items()) if points]):
        metrics = [Metric(p.name, p.value, _milliseconds(p.time), p.step) for p in batch]
        last = batch[-1]
        marks = [RunTag(TAG_STEP, str(last.step)), RunTag(TAG_TIME, str(last.time))]
        client.log_batch(run_id, metrics=metrics, tags=marks)
        sent += len(metrics)
    return sent


def _batches(steps: list[list[Point]]) -> Iterator[list[Point]]:
    """Points of whole steps, together below MLflow's limit."""
    batch: list[Point] = []
    for points in steps:
        if batch and len(batch) + len(points) > _BATCH - 2:  # the two tags count, too
            yield batch
            batch = []
        batch = batch + points
    if batch:
        yield batch


def _finish(
    client: "MlflowClient",
    run_id: str,
    run: Run,
    folder: RunFolder,
    finished: float,
    finetune: str | None,
) -> int:
    """Scores, pictures and the status of a finished run."""
    from mlflow.entities import Metric

    points = score_points(run, folder, finished)
    metrics = [Metric(p.name, p.value, _milliseconds(p.time), p.step) for p in points]
    if metrics:
        client.log_batch(run_id, metrics=metrics)
    if metrics and finetune:
        client.log_batch(finetune, metrics=metrics)
    if folder.pictures.is_dir():
        client.log_artifacts(run_id, str(folder.pictures), "pictures")
    client.set_terminated(run_id, "FINISHED", _milliseconds(finished))
    client.set_tag(run_id, TAG_FINISHED, str(finished))
    return len(points)


def _set_tags(client: "MlflowClient", known: "MlflowRun", wanted: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    changed: list[Any] = [
        RunTag(key, value) for key, value in wanted.items() if known.data.tags.get(key) != value
    ]
    if changed:
        client.log_batch(known.info.run_id, tags=changed)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)

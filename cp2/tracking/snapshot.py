"""A run as its folder shows it now, and what of it MLflow is to show."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cp2.errors import WrongFile
from cp2.plan.graph import Run
from cp2.plan.places import Places
from cp2.plan.progress.status import State, run_status
from cp2.plan.recipes import EvaluateRecipe
from cp2.record.attempts import AttemptRecord, read_attempts
from cp2.record.digest import digest
from cp2.record.folder import RunFolder
from cp2.record.readers import (
    check_owner,
    read_environment,
    read_object,
    read_recipe,
    read_scores,
    time_of,
)
from cp2.tracking import content
from cp2.tracking.content import Point

ENDED = ("FINISHED", "FAILED", "KILLED")
_RECORDS = ("recipe.json", "environment.json", "attempts.jsonl", "done.json", "scores.json")
_FORM = "2-"  # of `state`; an earlier one has no such beginning
NO_LOG = -1  # size of a log that a row does not have


class Version(NamedTuple):
    """What a run or row looks like; where it is the same, there is nothing new to send.

    Attributes:
        status: MLflow's word.
        state: digest that changes with all that is sent beside the lines of metrics.jsonl.
        log_size: bytes of metrics.jsonl.
    """

    status: str
    state: str
    log_size: int


@dataclass(frozen=True)
class RunSnapshot:
    """A run's files at one moment, looked at but for attempts.jsonl not read.

    Attributes:
        steps: of the whole run; None where they are not known or it is done.
        evaluations: the finished ones of a finetuning.
    """

    run: Run
    results: Path
    version: Version
    steps: int | None
    attempts: list[AttemptRecord]
    evaluations: list[Run]

    @property
    def folder(self) -> RunFolder:
        return self.run.folder(self.results)

    @property
    def status(self) -> str:
        """MLflow's word."""
        return self.version.status

    @property
    def source(self) -> str:
        """The folder, as another import may compare it."""
        return str(self.folder.path.resolve())

    @property
    def files(self) -> list[Path]:
        """Files that are stored with the run: recipe and environment; log, attempts and metrics
        once it ended; pictures of a finished one.
        """
        folder = self.folder
        files = [folder.recipe, folder.environment]
        if self.status in ENDED:
            files += [folder.log, folder.attempts, folder.metrics]
        if self.status == "FINISHED":
            files += sorted(folder.pictures.glob("*"))
        return [file for file in files if file.is_file()]


@dataclass(frozen=True)
class RunContent:
    """What a run's files say, read before the first word of it is sent.

    Attributes:
        points: costs of ended attempts, scores of finished evaluations.
        class_table: scores of every class as CSV by the name of its file, of a finished evaluation.
        started, ended: seconds since 1970.
    """

    params: dict[str, str]
    tags: dict[str, str]
    points: list[Point]
    class_table: dict[str, str]
    started: float | None
    ended: float | None


def take_snapshot(run: Run, places: Places, results: Path, now: float, told: Any) -> RunSnapshot:
    """Look at a run's files.

    Args:
        now: seconds since 1970.
        told: what else the state changes with.
    """
    folder = run.folder(results)
    found = run_status(run, places.plan, results, now)
    attempts = read_attempts(folder.path)
    plan = places.plan
    below = [plan.runs[key] for key in plan.dependants[run.key]] if run.stage == "finetune" else []
    evaluations = [one for one in below if one.stage == "evaluate" and one.is_done(results)]
    rows = [[row.table, row.name] for row in places.rows[run.key]]
    files = [folder.path / name for name in _RECORDS]
    files += [folder.probes] if folder.probes.is_file() else []
    for one in evaluations:
        files += [one.folder(results).done, one.folder(results).scores]
    status = _word(found.state, attempts)
    state = state_of([[_stamp(file) for file in files], status, rows, told])
    version = Version(status, state, (_stamp(folder.metrics) or (0, 0))[1])
    return RunSnapshot(run, results, version, found.steps, attempts, evaluations)


def is_of_earlier_form(state: str) -> bool:
    """Whether a state in MLflow was made by another formula: nothing follows from it."""
    return not state.startswith(_FORM)


def state_of(told: Any) -> str:
    """The state of all that is told of a run or row."""
    return _FORM + digest(told)[:16]


def _stamp(file: Path) -> tuple[int, int] | None:
    """When a file was written, and its size."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _word(state: State, attempts: list[AttemptRecord]) -> str:
    """MLflow's word; a run saved by the clock waits for its next attempt."""
    match state:
        case "done":
            return "FINISHED"
        case "running":
            return "RUNNING"
        case "failed":
            return "FAILED" if attempts and attempts[-1].outcome == "failed" else "KILLED"
        case "waiting":
            return "SCHEDULED"


def read_content(snapshot: RunSnapshot, places: Places) -> RunContent:
    """Read a run's files.

    Raises:
        WrongFile: one of them is damaged, or is another run's.
    """
    folder, run = snapshot.folder, snapshot.run
    settings, _ = read_recipe(folder.recipe)
    check_owner(folder.recipe, run.id)
    environment = read_environment(folder.environment)
    done = read_object(folder.done) if snapshot.status == "FINISHED" else {}
    ended = _last_sign(snapshot)
    if snapshot.status == "FINISHED":
        ended = time_of(folder.done, done, "finished")
    scores, class_table = _scores(snapshot)
    return RunContent(
        content.params(run, settings, places),
        content.tags(run, environment, places, snapshot.attempts) | _model(snapshot, done),
        content.cost_points(snapshot.attempts) + scores,
        class_table,
        _started(snapshot, environment),
        ended,
    )


def read_score_points(run: Run, results: Path) -> list[Point]:
    """Scores of a finished evaluation.

    Raises:
        WrongFile: they are damaged.
    """
    return _evaluation(run, results)[0]


def _evaluation(run: Run, results: Path) -> tuple[list[Point], dict[str, str]]:
    """Scores of a finished evaluation, and its table of classes, if it has one."""
    folder, recipe = run.folder(results), run.recipe
    assert isinstance(recipe, EvaluateRecipe)
    finished = time_of(folder.done, read_object(folder.done), "finished")
    scores = read_scores(folder.scores, recipe.metrics, run.id)
    per_class = recipe.per_class
    name = f"per_class_{per_class.name}.csv" if per_class else ""
    tables = {name: content.class_table(scores, per_class)} if per_class else {}
    return content.score_points(scores, run.tags.get("labels", "1"), finished), tables


def _started(snapshot: RunSnapshot, environment: dict[str, float]) -> float | None:
    times = [snapshot.attempts[0].started] if snapshot.attempts else []
    times += [environment["started"]] if environment.get("started") is not None else []
    return min(times, default=None)


def _last_sign(snapshot: RunSnapshot) -> float | None:
    """When a run ended that did not finish: of a killed one, when it last wrote metrics."""
    ended = snapshot.attempts[-1].ended if snapshot.attempts else None
    if ended is None and snapshot.folder.metrics.is_file():
        ended = snapshot.folder.metrics.stat().st_mtime
    return ended if snapshot.status in ENDED else None


def _scores(snapshot: RunSnapshot) -> tuple[list[Point], dict[str, str]]:
    """Scores of a finished evaluation, with its table of classes; a finetuning has its
    evaluations' (a damaged one is named where it is itself imported).
    """
    if snapshot.run.stage == "evaluate" and snapshot.status == "FINISHED":
        return _evaluation(snapshot.run, snapshot.results)
    points = []
    for run in snapshot.evaluations:
        with suppress(WrongFile):
            points += read_score_points(run, snapshot.results)
    return points, {}


def _model(snapshot: RunSnapshot, done: dict[str, object]) -> dict[str, str]:
    """Where a finished run's model is, and its hash."""
    model = snapshot.folder.model
    if snapshot.status != "FINISHED" or not model.is_file():
        return {}
    sha256 = done.get("model_sha256")
    return {"model.path": str(model.resolve())} | ({"model.sha256": str(sha256)} if sha256 else {})

"""All that is to be sent of one run, read before the first word of it is sent."""

from dataclasses import dataclass

from cp2.errors import WrongFile
from cp2.plan.places import Places
from cp2.plan.recipes import EvaluateRecipe
from cp2.record.metrics import damage
from cp2.record.readers import read_environment, read_object, read_recipe, read_scores, time_of
from cp2.tracking import content
from cp2.tracking.content import Point
from cp2.tracking.sight import Sight
from cp2.tracking.steps import News

ENDED = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True)
class Parcel:
    """What a run's files say.

    Attributes:
        started, ended: seconds since 1970.
        steps: points of the new lines.
        costs, scores: points of ended attempts and of a finished evaluation.
        classes: IoU of every class as CSV, of a finished evaluation.
        problem: what of the new lines was passed over.
    """

    params: dict[str, str]
    tags: dict[str, str]
    steps: list[Point]
    costs: list[Point]
    scores: list[Point]
    classes: str | None
    started: float | None
    ended: float | None
    problem: str | None


def pack(sight: Sight, news: News, places: Places) -> Parcel:
    """Read a run's files.

    Raises:
        WrongFile: one of them is damaged, or is another run's.
    """
    folder = sight.folder
    settings, written = read_recipe(folder.recipe)
    _check_owner(sight, written)
    environment = read_environment(folder.environment)
    finished = None
    done = read_object(folder.done) if sight.status == "FINISHED" else {}
    if sight.status == "FINISHED":
        finished = time_of(folder.done, done, "finished")
    scores, classes = _scores(sight, finished)
    steps = content.step_points(news.lines)
    tags = content.tags(sight.run, environment, places, sight.attempts)
    return Parcel(
        content.params(sight.run, settings, places),
        tags | _model(sight, done),
        steps,
        _costs(sight),
        scores,
        classes,
        _started(sight, environment, steps),
        finished if finished is not None else _last_sign(sight),
        damage(folder.metrics, news.damaged),
    )


def _check_owner(sight: Sight, tags: dict[str, object]) -> None:
    """A copied folder would show one run's curves under another's name."""
    written = tags.get("run_id", sight.run.id)
    if written != sight.run.id:
        raise WrongFile(
            f"{sight.folder.recipe}: is of run {written!r}, the folder is {sight.run.id!r}'s: one "
            "is a copy of the other; remove the folder that is wrong and make the run again"
        )


def _started(sight: Sight, environment: dict[str, float], steps: list[Point]) -> float | None:
    times = [sight.attempts[0].started] if sight.attempts else []
    times += [environment["started"]] if environment.get("started") is not None else []
    times += [steps[0].time] if steps else []
    return min(times, default=None)


def _last_sign(sight: Sight) -> float | None:
    """When a run ended that did not finish; the last sign of a killed one."""
    ended = sight.attempts[-1].ended if sight.attempts else None
    if ended is None and sight.folder.metrics.is_file():
        ended = sight.folder.metrics.stat().st_mtime
    return ended if sight.status in ENDED else None


def _costs(sight: Sight) -> list[Point]:
    """Costs once attempts ended."""
    times = [a.ended for a in sight.attempts if a.ended is not None]
    return content.cost_points(sight.attempts, max(times, default=0.0))


def _scores(sight: Sight, finished: float | None) -> tuple[list[Point], str | None]:
    """Scores of a finished evaluation, and its table of classes."""
    recipe = sight.run.recipe
    if finished is None or not isinstance(recipe, EvaluateRecipe):
        return [], None
    scores = read_scores(sight.folder.scores, recipe.metrics)
    classes = content.class_table(scores, recipe.per_class) if recipe.per_class else None
    labels = sight.run.tags.get("labels", "1")
    return content.score_points(scores, labels, finished), classes


def _model(sight: Sight, done: dict[str, object]) -> dict[str, str]:
    """Where a finished run's model is, and its hash."""
    model = sight.folder.model
    if sight.status != "FINISHED" or not model.is_file():
        return {}
    sha256 = done.get("model_sha256")
    return {"model.path": str(model.resolve())} | ({"model.sha256": str(sha256)} if sha256 else {})

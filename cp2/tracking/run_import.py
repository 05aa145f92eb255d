"""One run's records -> one MLflow run, sending only what MLflow does not have."""

from collections.abc import Callable
from dataclasses import dataclass

from cp2.errors import WrongFile
from cp2.plan.places import Places
from cp2.tracking.artifacts import send_files
from cp2.tracking.ledger import Entry
from cp2.tracking.parcel import ENDED, Parcel, pack
from cp2.tracking.sight import Sight
from cp2.tracking.steps import Bookmark, read_news
from cp2.tracking.store import Store

TAG_KEY = "cp2.run_id"  # "<stage>/<run id>"
TAG_STEP = "cp2.last_step"  # the last step that was sent
TAG_FIRST = "cp2.first_time"  # when the first was made, to notice that a run was made again
TAG_STATE = "cp2.state"  # digest of what else was sent
TAG_PLACE = "cp2.folder"  # the folder that it was read from
_PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class Sent:
    """What was sent for one run; `problem` says what of its records was passed over."""

    entry: Entry
    created: bool = False
    points: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Context:
    """Where runs are sent, and what holds for all of them.

    Attributes:
        common: tags of all runs of the campaign.
        begin: called before anything is sent.
        upload: whether the models' files are sent, too.
    """

    store: Store
    places: Places
    common: dict[str, str]
    begin: Callable[[], None]
    upload: bool


def import_run(
    context: Context, sight: Sight, known: Entry | None, finetune: str | None
) -> Sent | None:
    """Bring MLflow's copy of a run up to date; None: it is.

    A run that was trained again from its first step is deleted there and sent anew, for MLflow
    cannot take points back. The tags that say what was sent go last, so that an import may break
    off anywhere: the next one sends what is not known to be there, and asks for what may be.

    Args:
        finetune: MLflow's id of the finetuning that an evaluation scores; it gets the scores, too.
    Raises:
        WrongFile: a record is damaged, or is another run's; nothing was sent.
    """
    news = read_news(sight.folder.metrics, known.bookmark if known else Bookmark())
    if known and not news.lines and (known.state, known.status) == (sight.state, sight.status):
        return None
    parcel = pack(sight, news, context.places)
    if known and news.restarted:
        _check_place(sight, known)
    context.begin()
    if known and news.restarted:
        context.store.delete(known.mlflow_id)
        known = None
    entry = known or _create(context, sight, parcel)
    if sight.state != entry.state:
        _send_beside(context, sight, parcel, entry, finetune)
    points = _send_and_mark(context, sight, parcel, entry, news.bookmark)
    sent = Entry(entry.mlflow_id, sight.status, sight.state, sight.place, news.bookmark)
    return Sent(sent, known is None, points, parcel.problem)


def _check_place(sight: Sight, known: Entry) -> None:
    """Two results folders would take the run from each other for ever."""
    if known.place not in ("", sight.place):
        raise WrongFile(
            f"{sight.place}: MLflow has run {sight.run.id!r} from {known.place}, where it was "
            "trained at another time. Two folders have one id: import them into experiments of "
            "their own (another --uri), or delete that run in MLflow's UI to take this one"
        )


def _create(context: Context, sight: Sight, parcel: Parcel) -> Entry:
    """A run that can be found again, and says of nothing that it was sent."""
    tags = {TAG_KEY: sight.run.key}
    return Entry(context.store.create(sight.run.id, tags, parcel.started))


def _send_beside(
    context: Context, sight: Sight, parcel: Parcel, entry: Entry, finetune: str | None
) -> None:
    """Files, and an evaluation's scores to its finetuning."""
    send_files(
        context.store, entry.mlflow_id, sight.folder, sight.status, parcel.classes, context.upload
    )
    if finetune and parcel.scores:
        context.store.log(finetune, parcel.scores)


def _send_and_mark(
    context: Context, sight: Sight, parcel: Parcel, entry: Entry, mark: Bookmark
) -> int:
    """Status, params, points and, with the last of them, the tags that say so; how many points."""
    store, run_id = context.store, entry.mlflow_id
    steps, params = parcel.steps, {} if entry.state else parcel.params
    if entry.doubtful:
        steps, params = store.unsent(run_id, steps, params)
    beside = parcel.costs + parcel.scores if sight.state != entry.state else []
    if sight.status != entry.status:
        store.end(run_id, sight.status, parcel.ended if sight.status in ENDED else None)
    store.log(run_id, steps + beside, params, context.common | _tags(sight, parcel, mark))
    return len(steps) + len(beside)


def _tags(sight: Sight, parcel: Parcel, mark: Bookmark) -> dict[str, str]:
    tags = parcel.tags | {
        TAG_STEP: str(mark.step),
        TAG_STATE: sight.state,
        TAG_PLACE: sight.place,
    }
    if mark.first is not None:
        tags[TAG_FIRST] = repr(mark.first)
    if sight.parent:
        tags[_PARENT] = sight.parent
    return tags

"""One run's records -> one MLflow run, sending only what MLflow does not have."""

from collections.abc import Callable
from dataclasses import dataclass

from cp2.errors import WrongFile
from cp2.plan.places import Places
from cp2.tracking.artifacts import send_files
from cp2.tracking.content import Point
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


@dataclass(frozen=True)
class Shipment:
    """A run that MLflow has, and what it does not have of it yet.

    Attributes:
        steps: points of the new lines.
        mark: how far they go.
    """

    sight: Sight
    parcel: Parcel
    entry: Entry
    created: bool
    steps: list[Point]
    params: dict[str, str]
    mark: Bookmark

    @property
    def beside(self) -> list[Point]:
        """Points beside the steps."""
        changed = self.sight.state != self.entry.state
        return self.parcel.costs + self.parcel.scores if changed else []


def prepare(context: Context, sight: Sight, known: Entry | None) -> Shipment | None:
    """Read what is new of a run, and make sure that MLflow has a run for it; None: nothing is new.

    A run that was trained again from its first step is deleted there and made anew, for MLflow
    cannot take points back. One that is new there can be found again by its key, and says of
    nothing that it was sent: these tags go last, with `send_and_mark`, so that an import may break
    off anywhere. The next one sends what is not known to be there, and asks for what may be.

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
    steps, params = parcel.steps, {} if entry.state else parcel.params
    if entry.doubtful:
        steps, params = context.store.unsent(entry.mlflow_id, steps, params)
    return Shipment(sight, parcel, entry, known is None, steps, params, news.bookmark)


def send_and_mark(
    context: Context, shipment: Shipment, steps: list[Point], finetune: str | None
) -> Entry:
    """Send files, status, params and points and, with the last of them, the tags that say so.

    Args:
        steps: those points of new lines that were not sent before.
        finetune: MLflow's id of the finetuning that an evaluation scores; it gets the scores, too.
    Returns:
        What is known of the run from now on.
    """
    sight, entry, store = shipment.sight, shipment.entry, context.store
    if sight.state != entry.state:
        _send_beside(context, shipment, finetune)
    if sight.status != entry.status:
        ended = shipment.parcel.ended if sight.status in ENDED else None
        store.end(entry.mlflow_id, sight.status, ended)
    tags = context.common | _tags(sight, shipment.parcel, shipment.mark)
    store.log(entry.mlflow_id, steps + shipment.beside, shipment.params, tags)
    return Entry(entry.mlflow_id, sight.status, sight.state, sight.place, shipment.mark)


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


def _send_beside(context: Context, shipment: Shipment, finetune: str | None) -> None:
    """Files, and an evaluation's scores to its finetuning."""
    sight, parcel, run_id = shipment.sight, shipment.parcel, shipment.entry.mlflow_id
    upload = context.upload
    send_files(context.store, run_id, sight.folder, sight.status, parcel.classes, upload)
    if finetune and parcel.scores:
        context.store.log(finetune, parcel.scores)


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

"""One run's records -> one MLflow run, sending only what MLflow does not have."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cp2.errors import WrongFile
from cp2.plan.places import Places
from cp2.record.metrics import read_metrics
from cp2.record.tail import START, LogLine, read_new_lines
from cp2.tracking.content import step_points
from cp2.tracking.snapshot import ENDED, RunContent, RunSnapshot, read_content
from cp2.tracking.store import Store
from cp2.tracking.sync import TAG_KEY, SyncState

MOST_POINTS = 200  # of a metric; a chart of MLflow is a few hundred pixels wide


@dataclass(frozen=True)
class Imported:
    """What was sent of a run.

    Attributes:
        sync: what MLflow has of it now.
        created: it is new there.
        points: values of metrics that were sent.
        problem: what of the new lines of metrics.jsonl was passed over.
    """

    sync: SyncState
    created: bool
    points: int
    problem: str | None


def import_run(
    store: Store,
    snapshot: RunSnapshot,
    known: SyncState | None,
    parent: str | None,
    places: Places,
    common: dict[str, str],
    upload: bool,
) -> Imported:
    """Send what is new of a run; where it may break off: tags say what was sent, and go last.

    A run that was trained again from its first step is deleted in MLflow and made anew, for MLflow
    cannot take points back.

    Args:
        known: what MLflow has of it; None: nothing.
        parent: MLflow's id of its row.
        common: tags of all runs of the campaign.
        upload: send the model's file, too.
    Raises:
        WrongFile: a record is damaged, or is another run's; nothing was sent.
    """
    new = read_new_lines(snapshot.folder.metrics, known.position if known else START)
    content = read_content(snapshot, places)
    if known and new.restarted:
        _check_folder(snapshot, known)
        store.delete(known.mlflow_id)
        known = None
    created = known is None
    if known is None:
        tags = {TAG_KEY: snapshot.run.key}
        known = SyncState(store.create(snapshot.run.id, tags, content.started))
    run_id, position = known.mlflow_id, known.position
    lines = thin(new.lines, position.step, snapshot.steps, snapshot.status == "FINISHED")
    points = step_points(line.values for line in lines)
    params = {} if known.version.state else content.params
    if not known.exact:
        points, params = store.unsent(run_id, points, params)
    if snapshot.version.state != known.version.state:
        _send_files(store, run_id, snapshot, content, upload)
        points += known.changed(content.points)
        if probes := step_points(read_metrics(snapshot.folder.probes)):
            points += store.unsent(run_id, probes, {})[0]
    if snapshot.status != known.version.status:
        store.end(run_id, snapshot.status, content.ended if snapshot.status in ENDED else None)
    position = lines[-1].end if lines else position
    values = known.values_after(points)
    sync = SyncState(run_id, snapshot.version, snapshot.source, parent, position, values)
    store.log(run_id, points, params, common | content.tags | sync.tags)
    return Imported(sync, created, len(points), new.problem)


def thin(
    lines: Sequence[LogLine], sent: int, steps: int | None, finished: bool
) -> Sequence[LogLine]:
    """Those of new lines that are sent: at most `MOST_POINTS` of the run, and the last of a
    finished one.

    Steps are divided into equal parts; the first line of each is sent. So what was sent stays valid
    while a run grows, and of a resumed one no part has two.

    Args:
        sent: step of the last line that was sent.
        steps: of the whole run, if known; else those so far are taken for it.
    """
    if not lines:
        return lines
    last = lines[-1].end.step
    width = -(-(max(steps or 0, last) + 1) // (MOST_POINTS - 1))
    part = sent // width
    kept = []
    for line in lines:
        if line.end.step // width > part:
            part = line.end.step // width
            kept.append(line)
    if finished and kept[-1:] != [lines[-1]]:
        kept.append(lines[-1])
    return kept


def _check_folder(snapshot: RunSnapshot, known: SyncState) -> None:
    """Two results folders would take the run from each other for ever."""
    if known.folder not in ("", snapshot.source):
        raise WrongFile(
            f"{snapshot.source}: MLflow has run {snapshot.run.id!r} from {known.folder}, where it "
            "was trained at another time. Two folders have one id: import them into experiments of "
            "their own (another --uri), or delete that run in MLflow's UI to take this one"
        )


def _send_files(
    store: Store, run_id: str, snapshot: RunSnapshot, content: RunContent, upload: bool
) -> None:
    """All in one request: looking a run's artifacts up is what costs."""
    model = snapshot.folder.model
    files = snapshot.files
    files += [model] if upload and snapshot.status == "FINISHED" and model.is_file() else []
    with tempfile.TemporaryDirectory(prefix="cp2-track-") as temporary:
        staged = Path(temporary)
        for file in files:
            link = staged / file.relative_to(snapshot.folder.path)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(file.resolve())
        for name, text in content.class_table.items():
            (staged / name).write_text(text, encoding="utf-8")
        store.upload(run_id, staged)

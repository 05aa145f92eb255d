"""Records of runs -> MLflow. The files are the truth; what stands in MLflow can be made again.

An import may be repeated, interrupted or run in a loop for a live view: each time only what is new
is sent, and where nothing is, neither MLflow nor the store is asked.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cp2.errors import UserError, WrongFile
from cp2.plan.graph import Plan, Run
from cp2.plan.places import Places, Row
from cp2.record.digest import digest
from cp2.record.lock import hold, holder
from cp2.record.mlflow_links import write_links
from cp2.settings.load import Configuration
from cp2.tracking.content import STAGES
from cp2.tracking.ledger import Entry, Ledger
from cp2.tracking.row_import import create_row, import_row
from cp2.tracking.run_import import (
    TAG_FIRST,
    TAG_KEY,
    TAG_PLACE,
    TAG_STATE,
    TAG_STEP,
    Context,
    Shipment,
    prepare,
    send_and_mark,
)
from cp2.tracking.sight import look
from cp2.tracking.steps import Bookmark
from cp2.tracking.store import LostRunError, Store

PATIENCE = 600.0  # seconds for another import to end
TOGETHER = 400_000  # points that are read before they are sent; some 100 MB


@dataclass
class TrackSummary:
    """What an import did.

    Attributes:
        runs: runs with records; of these `created` are new in MLflow.
        points: metric values sent.
        finished: whether all runs of the plan are done and sent.
        problems: what is wrong with runs that were left out.
    """

    uri: str
    experiment: str
    runs: int = 0
    created: int = 0
    points: int = 0
    finished: bool = False
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        left_out = f", {len(self.problems)} left out" if self.problems else ""
        return (
            f"{self.runs} runs in experiment {self.experiment!r} at {self.uri}: "
            f"{self.created} new, {self.points} new metric values{left_out}"
        )


def default_uri(configuration: Configuration) -> str:
    """MLFLOW_TRACKING_URI, else a SQLite file in the results folder."""
    database = configuration.results.resolve() / "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}"


class Tracker:
    """Imports the pretrain, finetune and evaluate runs of a plan that have records.

    Args:
        uri: MLflow tracking URI; None: `default_uri`.
        upload_models: send the models' files, too.
    Raises:
        UserError: the URI is of a kind that cannot be used.
    """

    def __init__(
        self,
        configuration: Configuration,
        plan: Plan,
        uri: str | None = None,
        upload_models: bool = False,
    ) -> None:
        self._plan, self._results = plan, configuration.results
        self._reports = configuration.reports
        self._upload = upload_models
        campaign = configuration.campaign
        self._common = {"scale": campaign.scale, "campaign": campaign.name}
        self._experiment = campaign.name
        uri = uri or default_uri(configuration)
        artifacts = self._results.resolve() / "mlflow-artifacts"
        self._store = Store(uri, campaign.name, artifacts)
        self._folder = self._results / "tracking" / digest(uri)[:8]

    @cached_property
    def _places(self) -> Places:
        return Places(self._plan)

    def track(self, verify: bool = False) -> TrackSummary:
        """Send what is new.

        Args:
            verify: ask the store what it has, rather than to rely on what was sent before.
        Raises:
            StoreError: the store does not answer or refuses; the records are untouched.
            UserError: another import works for more than `PATIENCE` seconds.
        """
        with _only_writer(self._folder):
            ledger = Ledger(self._folder / f"{self._experiment}.json")
            if verify or not self._store.looks_unchanged(ledger.store):
                ledger.trusted = False
            for _ in range(3):
                try:
                    if not ledger.trusted:
                        self._ask(ledger)
                    summary = self._send(ledger)
                except LostRunError:  # deleted in the UI: ask what is there
                    ledger.trusted = False
                    continue
                ledger.close()
                self._tell_report(ledger)
                return summary
        raise UserError(f"{self._store.shown}: somebody deletes runs while they are imported")

    def _tell_report(self, ledger: Ledger) -> None:
        """Leave the addresses of the runs where the report finds them."""
        experiment = (ledger.store or "").partition(" ")[0]
        known = {key: entry.mlflow_id for key, entry in ledger.entries.items()}
        if experiment:
            write_links(self._reports, self._store.uri, experiment, known)

    def _ask(self, ledger: Ledger) -> None:
        """Fill the ledger from the tags of the runs that the store has."""
        ledger.begin()
        ledger.store = self._store.identity()
        ledger.entries.clear()
        for key, (mlflow_id, status, tags) in self._store.known(TAG_KEY).items():
            first = tags.get(TAG_FIRST)
            mark = Bookmark(float(first) if first else None, int(tags.get(TAG_STEP, -1)))
            place = tags.get(TAG_PLACE, "")
            state = tags.get(TAG_STATE, "")
            ledger.entries[key] = Entry(mlflow_id, status, state, place, mark, doubtful=True)
        ledger.trusted = True

    def _send(self, ledger: Ledger) -> TrackSummary:
        summary = TrackSummary(self._store.shown, self._experiment)
        expected = [run for run in self._plan.runs.values() if run.stage in STAGES]
        now = time.time()
        waiting: list[Shipment] = []
        for run in expected:
            if run.folder(self._results).recipe.is_file():
                with _left_out(summary):
                    waiting += self._prepare(run, ledger, now)
                    summary.runs += 1
            if sum(len(one.steps) for one in waiting) > TOGETHER:
                self._ship(waiting, ledger, summary)
                waiting.clear()
        self._ship(waiting, ledger, summary)
        for row in self._places.runs:
            if row.key in ledger.entries:
                with _left_out(summary):
                    self._send_row(row, ledger)
        left_out = len(expected) - summary.runs
        words = [ledger.entries[run.key].status for run in expected if run.key in ledger.entries]
        summary.finished = not left_out and set(words) <= {"FINISHED"}
        return summary

    def _context(self, ledger: Ledger) -> Context:
        return Context(self._store, self._places, self._common, ledger.begin, self._upload)

    def _prepare(self, run: Run, ledger: Ledger, now: float) -> list[Shipment]:
        """What is new of a run: one shipment or none."""
        parent = self._parent(self._places.rows[run.key], ledger)
        told = [parent, _finetune(run, ledger), "with model" if self._upload else None]
        sight = look(run, run.folder(self._results), self._places, told, now)
        shipment = prepare(self._context(ledger), sight, ledger.entries.get(run.key))
        if shipment is None:
            return []
        ledger.put(run.key, shipment.entry)
        return [shipment]

    def _ship(self, shipments: list[Shipment], ledger: Ledger, summary: TrackSummary) -> None:
        """Send what was prepared; most points of all of it at once, where the store can."""
        left = self._store.send_together({one.entry.mlflow_id: one.steps for one in shipments})
        for one in shipments:
            run, steps = one.sight.run, left[one.entry.mlflow_id]
            finetune = _finetune(run, ledger)
            ledger.put(run.key, send_and_mark(self._context(ledger), one, steps, finetune))
            summary.created += one.created
            summary.points += len(one.steps) + len(one.beside)
            if one.parcel.problem:
                summary.problems.append(one.parcel.problem)

    def _send_row(self, row: Row, ledger: Ledger) -> None:
        entry = import_row(
            self._store, row, self._places, self._results, ledger.entries, ledger.begin
        )
        if entry:
            ledger.put(row.key, entry)

    def _parent(self, rows: list[Row], ledger: Ledger) -> str | None:
        """MLflow's id of a run's first row, which is made if need be."""
        if not rows:
            return None
        key = rows[0].key
        if key not in ledger.entries:
            ledger.begin()
            ledger.put(
                key, create_row(self._store, rows[0], self._places, self._results, self._common)
            )
        return ledger.entries[key].mlflow_id


def _finetune(run: Run, ledger: Ledger) -> str | None:
    """MLflow's id of the finetuning that an evaluation scores."""
    entry = ledger.entries.get(f"finetune/{run.need('finetune')}")
    return entry.mlflow_id if entry else None


@contextmanager
def _left_out(summary: TrackSummary) -> Iterator[None]:
    """Name what is wrong with records, once each, and go on."""
    try:
        yield
    except WrongFile as error:
        if str(error) not in summary.problems:
            summary.problems.append(str(error))


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Wait for another import of the same results into the same store, then keep others out."""
    until = time.monotonic() + PATIENCE
    while (other := holder(folder)) is not None and time.monotonic() < until:
        print(f"waiting for the import of {other.owner}", flush=True)
        time.sleep(5)
    with hold(folder):
        yield

"""Records of runs -> MLflow. The files are the truth; what stands in MLflow can be made again.

An import may be repeated, interrupted or run in a loop for a live view: each time only what is new
is sent. Where no file changed since the last one, neither MLflow nor the store is asked.
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
from cp2.plan.places import Places
from cp2.record.digest import digest
from cp2.record.lock import hold, holder
from cp2.record.mlflow_links import read_links, write_links
from cp2.settings.load import Configuration
from cp2.stages import TRACKED
from cp2.tracking.row_import import create_row, import_row, row_now
from cp2.tracking.run_import import import_run
from cp2.tracking.snapshot import RunSnapshot, take_snapshot
from cp2.tracking.store import LostRunError, Store
from cp2.tracking.sync import SyncStates, read_sync_states

PATIENCE = 600.0  # seconds for another import to end

Snapshots = dict[str, RunSnapshot]


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
        self._runs = [run for run in plan.runs.values() if run.stage in TRACKED]
        self._known: SyncStates | None = None  # what MLflow has, once it was asked

    @cached_property
    def _places(self) -> Places:
        return Places(self._plan)

    def track(self, verify: bool = False) -> TrackSummary:
        """Send what is new.

        Args:
            verify: ask the store what it has, even if nothing is new; send what was deleted there.
        Raises:
            StoreError: the store does not answer or refuses; the records are untouched.
            UserError: another import works for more than `PATIENCE` seconds.
        """
        with _only_writer(self._folder):
            for _ in range(3):
                try:
                    return self._track(verify)
                except LostRunError:  # deleted in the UI: ask what is there
                    self._known = None
                except BaseException:  # what was sent is not known
                    self._known = None
                    raise
        raise UserError(f"{self._store.shown}: somebody deletes runs while they are imported")

    def _track(self, verify: bool) -> TrackSummary:
        summary = TrackSummary(self._store.shown, self._experiment)
        snapshots = self._look()
        summary.runs = len(snapshots)
        summary.finished = len(self._runs) == sum(
            snapshot.status == "FINISHED" for snapshot in snapshots.values()
        )
        seen = digest([snapshot.version for snapshot in snapshots.values()])
        links = read_links(self._reports)
        if not verify and links.are_of(self._store.uri, seen) and self._store.may_exist():
            return summary
        if verify or self._known is None:
            self._known = read_sync_states(self._store, with_bin=not verify)
        self._send(snapshots, self._known, summary)
        ids = {key: state.mlflow_id for key, state in self._known.current.items()}
        seen = "" if summary.problems else seen  # they are to be said again
        write_links(self._reports, self._store.uri, self._store.experiment_id(), ids, seen)
        return summary

    def _look(self) -> dict[str, RunSnapshot]:
        """All runs that have records, by key."""
        now = time.time()
        told = [self._upload, self._common]
        return {
            run.key: take_snapshot(run, self._places, self._results, now, told)
            for run in self._runs
            if run.folder(self._results).recipe.is_file()
        }

    def _send(self, snapshots: Snapshots, known: SyncStates, summary: TrackSummary) -> None:
        """Bring MLflow up to date with the runs, then with the rows that are parents of some."""
        for key, snapshot in snapshots.items():
            parent = self._parent(snapshot.run, snapshots, known)
            there = known.get(key, snapshot.version)
            if there and there.matches(snapshot.version, parent):
                continue
            with _left_out(summary, runs=1):
                sent = import_run(
                    self._store, snapshot, there, parent, self._places, self._common, self._upload
                )
                known.current[key] = sent.sync
                summary.created += sent.created
                summary.points += sent.points
                if sent.problem:
                    summary.problems.append(sent.problem)
        for row in self._places.runs:
            there = known.get(row.key, row_now(row, self._places, known.current))
            if there and not there.deleted:
                with _left_out(summary):
                    known.current[row.key] = import_row(
                        self._store, row, there, self._places, self._results, known.current
                    )

    def _parent(self, run: Run, snapshots: Snapshots, known: SyncStates) -> str | None:
        """MLflow's id of a run's first row, which is made if need be."""
        rows = self._places.rows[run.key]
        if not rows:
            return None
        there = known.get(rows[0].key, row_now(rows[0], self._places, snapshots))
        if there is None:
            there = create_row(self._store, rows[0], self._places, self._results, self._common)
            known.current[rows[0].key] = there
        return there.mlflow_id


@contextmanager
def _left_out(summary: TrackSummary, runs: int = 0) -> Iterator[None]:
    """Name what is wrong with records, once each, and go on."""
    try:
        yield
    except WrongFile as error:
        summary.runs -= runs
        summary.finished = False
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

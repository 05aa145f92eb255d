"""Records of runs -> MLflow. The files are the truth; what stands in MLflow can be made again.

A run is found by its tag `cp2.run_id`, so that an import may be repeated, interrupted or run in a
loop for a live view: each time only what is new is sent.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cp2.errors import UserError
from cp2.plan.graph import Plan
from cp2.settings.load import Configuration
from cp2.tracking.content import STAGES, tables_of
from cp2.tracking.run_import import TAG_KEY, import_run

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun
    from mlflow.tracking import MlflowClient

_PAGE = 1000
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # The client's own defaults retry a dead server for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


@dataclass(frozen=True)
class TrackSummary:
    """What an import did.

    Attributes:
        runs: runs with records, all of which are now in MLflow.
        created: of these, runs that MLflow did not have.
        points: metric values sent.
    """

    uri: str
    experiment: str
    runs: int
    created: int
    points: int

    def __str__(self) -> str:
        return (
            f"{self.runs} runs in experiment {self.experiment!r} at {self.uri}: "
            f"{self.created} new, {self.points} new metric values"
        )


def track(configuration: Configuration, plan: Plan, uri: str | None = None) -> TrackSummary:
    """Import all pretrain, finetune and evaluate runs that have records.

    Args:
        uri: MLflow tracking URI; None: a SQLite file in the results folder. One import at a time
            may write to it.
    Raises:
        UserError: the URI cannot be used or its server does not answer; the records are untouched.
        WrongFile: a record is damaged.
    """
    uri = uri or default_uri(configuration)
    if uri.startswith("file:") or ("://" not in uri and uri != "databricks"):
        raise UserError(
            f"tracking URI {uri!r}: MLflow no longer writes to folders; give sqlite:///<file>.db "
            "or http(s)://<host>:<port>, or leave it out for a SQLite file in the results folder"
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    experiment = configuration.campaign.name
    tables = tables_of(plan)
    created = points = 0
    ids: dict[str, str] = {}  # run key -> MLflow's id; a run comes after what it starts from
    with _readable_errors(uri):
        client = _connect(uri)
        experiment_id = _experiment(client, configuration, uri)
        known = _known_runs(client, experiment_id)
        for run in plan.runs.values():
            folder = run.folder(configuration.results)
            if run.stage not in STAGES or not folder.recipe.is_file():
                continue
            finetune = ids.get(f"finetune/{run.need('finetune')}")
            sent = import_run(
                client, experiment_id, run, folder, tables[run.key], known.get(run.key), finetune
            )
            ids[run.key] = sent.mlflow_id
            created += sent.created
            points += sent.points
    return TrackSummary(uri, experiment, len(ids), created, points)


def default_uri(configuration: Configuration) -> str:
    """SQLite file in the results folder."""
    return f"sqlite:///{configuration.results.resolve() / 'mlflow.db'}"


def _connect(uri: str) -> "MlflowClient":
    # A new database is announced by some forty lines of schema migrations.
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient  # takes seconds: not at the top

    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _experiment(client: "MlflowClient", configuration: Configuration, uri: str) -> str:
    """Id of the campaign's experiment, which is made or brought back from the bin if need be."""
    name = configuration.campaign.name
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = None
        if uri.startswith("sqlite:"):  # a server knows its own place for artifacts
            location = (configuration.results.resolve() / "mlflow-artifacts" / name).as_uri()
        return client.create_experiment(name, artifact_location=location)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def _known_runs(client: "MlflowClient", experiment_id: str) -> "dict[str, MlflowRun]":
    """MLflow's runs by our run key."""
    known: dict[str, MlflowRun] = {}
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=_PAGE, page_token=token)
        known |= {run.data.tags[TAG_KEY]: run for run in page if TAG_KEY in run.data.tags}
        token = page.token
        if not token:
            return known


@contextmanager
def _readable_errors(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, OSError, SQLAlchemyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"tracking URI {uri!r} cannot be used: {reason}\n"
            "Check the URI, and for a server that it runs (`mlflow server`); for a database of an "
            "older MLflow run `mlflow db upgrade <uri>`. Nothing is lost: the records are in the "
            "results folder; repeat `cp2 track` at any time."
        ) from error

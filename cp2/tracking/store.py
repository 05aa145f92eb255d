"""One experiment of an MLflow tracking store, SQLite or server. Only this file calls MLflow."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cp2.errors import UserError
from cp2.redaction import plain_urls
from cp2.tracking.content import Point

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_PAGE = 1000
# What MLflow answers for a run in the bin or gone for good, and for much else.
_MAYBE_LOST = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")
_ENTITIES, _PARAMS_OR_TAGS = 1000, 100  # MLflow's limits a request
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # The client's own defaults retry a dead server for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


# Else the UI takes the experiment for one of language model prompts.
_KIND = {"mlflow.experimentKind": "custom_model_development"}


class StoreError(UserError):
    """The store cannot be used now; what was not sent will be the next time."""


class LostRunError(Exception):
    """A run that was sent is no longer there."""


class StoredRun(NamedTuple):
    """A run in the store, or in its bin.

    Attributes:
        values: the latest of each metric.
    """

    mlflow_id: str
    status: str
    deleted: bool
    tags: dict[str, str]
    values: dict[str, float]


class Store:
    """Connects when it is first used: importing MLflow takes seconds.

    Args:
        uri: MLflow tracking URI.
        experiment: its name.
        artifacts: folder for the artifacts of a SQLite store; a server knows its own place.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path) -> None:
        if uri.startswith("file:") or ("://" not in uri and uri != "databricks"):
            raise StoreError(
                f"tracking URI {uri!r}: MLflow no longer writes to folders; give "
                "sqlite:///<file>.db or http(s)://<host>:<port>, or leave it out for a SQLite file "
                "in the results folder"
            )
        self.uri, self._name, self._artifacts = uri, experiment, artifacts
        path = uri.removeprefix("sqlite:///")
        self._database = None if path == uri else Path(path)

    @property
    def shown(self) -> str:
        """The URI without user, password and query."""
        return plain_urls(self.uri)

    def may_exist(self) -> bool:
        """Whether the store may be there, as far as can be told unconnected."""
        return self._database is None or self._database.is_file()

    @contextmanager
    def _explained(self, run_id: str = "") -> Iterator[None]:
        """Turn what goes wrong in the store into a `StoreError` that says what to do.

        Of a run that is no longer there it is a `LostRunError`.
        """
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # MLflow, SQLAlchemy and each store's driver raise their own
            code = getattr(error, "error_code", None)
            if run_id and code in _MAYBE_LOST and not self._has(run_id):
                raise LostRunError(run_id) from error
            raise StoreError(self._explanation(error)) from error

    def _explanation(self, error: Exception) -> str:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("mlflow"):
            return (
                "MLflow is not installed: pip install 'cp2-reproduction[mlflow]', then `cp2 "
                "track`; the records are in the results folder"
            )
        driver = ""
        if isinstance(error, ImportError):
            driver = "Install the Python driver of this database (PostgreSQL: psycopg2-binary). "
        return (
            f"tracking URI {self.shown!r} cannot be used: {reason.replace(self.uri, self.shown)}\n"
            f"{driver}Check the URI, and for a server that it runs (`mlflow server`) and knows "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; for a database of an older "
            "MLflow run `mlflow db upgrade <uri>`. Nothing is lost: the records are in the results "
            "folder; repeat `cp2 track` at any time."
        )

    def _has(self, run_id: str) -> bool:
        """Whether a run is there and not in the bin."""
        from mlflow.exceptions import MlflowException

        with self._explained():
            try:
                return str(self._client.get_run(run_id).info.lifecycle_stage) == "active"
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return False
                raise

    @cached_property
    def _client(self) -> "MlflowClient":
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        # A new database is announced by some forty lines of schema migrations.
        for name in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        if self._database:
            self._database.parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @cached_property
    def _experiment(self) -> str:
        """Id of the experiment, which is made or brought back from the bin."""
        client = self._client
        experiment = client.get_experiment_by_name(self._name)
        if experiment is None:
            location = (self._artifacts / self._name).as_uri() if self._database else None
            return str(client.create_experiment(self._name, location, tags=_KIND))
        if experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def experiment_id(self) -> str:
        """MLflow's id of the experiment."""
        with self._explained():
            return self._experiment

    def search(self, tag: str, with_bin: bool) -> list[StoredRun]:
        """All runs that have a tag, with those that lie in the bin if wanted."""
        with self._explained():
            from mlflow.entities import ViewType

            view = ViewType.ALL if with_bin else ViewType.ACTIVE_ONLY
            found: list[StoredRun] = []
            token = None
            while True:
                page = self._client.search_runs(
                    [self._experiment], run_view_type=view, max_results=_PAGE, page_token=token
                )
                for run in page:
                    if tag in run.data.tags:
                        info, data = run.info, run.data
                        deleted = info.lifecycle_stage == "deleted"
                        one = StoredRun(info.run_id, info.status, deleted, data.tags, data.metrics)
                        found.append(one)
                token = page.token
                if not token:
                    return found

    def create(self, name: str, tags: Mapping[str, str], start: float | None) -> str:
        """A new run; returns its id. `start` in seconds since 1970."""
        with self._explained():
            made = self._client.create_run(
                self._experiment,
                start_time=None if start is None else _milliseconds(start),
                tags=dict(tags),
                run_name=name,
            )
            return str(made.info.run_id)

    def unsent(
        self, run_id: str, points: Sequence[Point], params: Mapping[str, str]
    ) -> tuple[list[Point], dict[str, str]]:
        """Those points whose step a metric does not have yet, and those params that are not there.

        An import that broke off may have sent more than its tags say; what MLflow has first stays.
        """
        with self._explained(run_id):
            there = {
                name: {point.step for point in self._client.get_metric_history(run_id, name)}
                for name in dict.fromkeys(point.name for point in points)
            }
            known = self._client.get_run(run_id).data.params
            left = [point for point in points if point.step not in there[point.name]]
            return left, {key: value for key, value in params.items() if key not in known}

    def log(
        self,
        run_id: str,
        points: Sequence[Point],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Send points, params and, with the last of them, tags."""
        with self._explained(run_id):
            from mlflow.entities import Metric, Param, RunTag

            metrics = [Metric(p.name, p.value, _milliseconds(p.time), p.step) for p in points]
            values = [Param(key, value) for key, value in params.items()]
            marks = [RunTag(key, value) for key, value in tags.items()]
            while (
                len(metrics) + len(values) + len(marks) > _ENTITIES or len(values) > _PARAMS_OR_TAGS
            ):
                some = values[:_PARAMS_OR_TAGS]
                room = _ENTITIES - len(some)
                self._client.log_batch(run_id, metrics[:room], some)
                metrics, values = metrics[room:], values[_PARAMS_OR_TAGS:]
            self._client.log_batch(run_id, metrics, values, marks)

    def end(self, run_id: str, status: str, time: float | None) -> None:
        """Set the status; a time is the run's end, in seconds since 1970."""
        with self._explained(run_id):
            if time is None:
                self._client.update_run(run_id, status=status)
            else:
                self._client.set_terminated(run_id, status, _milliseconds(time))

    def delete(self, run_id: str) -> None:
        """Move a run to the store's bin."""
        with self._explained(run_id):
            self._client.delete_run(run_id)

    def upload(self, run_id: str, folder: Path) -> None:
        """Store a folder's content as the run's artifacts.

        MLflow stores files of runs in the bin, too.
        """
        with self._explained(run_id):
            self._client.log_artifacts(run_id, str(folder))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)

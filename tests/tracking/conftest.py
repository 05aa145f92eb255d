"""A campaign with a migrated database of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from imported import Campaign, folders
from mlflow.tracking import MlflowClient

from cp2.plan.graph import Run
from cp2.settings.load import load_campaign


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(autouse=True)
def unsynced() -> Iterator[None]:
    """Databases do not wait for the disk at every commit: they need not outlive the machine."""

    def asked(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    target = sqlalchemy.engine.Engine, "connect", asked
    sqlalchemy.event.listen(*target)
    yield
    sqlalchemy.event.remove(*target)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An empty database with its schema, made once: the migrations take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture
def campaign(tmp_path: Path, migrated: bytes) -> Campaign:
    (tmp_path / "mlflow.db").write_bytes(migrated)
    return Campaign(load_campaign("demo", folders(tmp_path)), f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def pretrain(campaign: Campaign) -> Run:
    return next(run for run in campaign.plan.stage("pretrain") if run.tags["method"] == "cp2")


@pytest.fixture
def evaluate(campaign: Campaign) -> Run:
    """An evaluation of the first row's first cell."""
    table = next(iter(campaign.plan.tables.values()))
    return campaign.plan.runs[table.cells[0].runs[0]]

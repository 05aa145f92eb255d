"""A live MLflow server that asks for a password."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from imported import Campaign

from cp2.plan.graph import Run
from cp2.tracking.store import StoreError

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and SQLAlchemy's own
_PATIENCE = 180.0  # seconds for the server to start; it migrates two databases


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path, migrated: bytes) -> Iterator[tuple[str, str]]:
    """URI and password of user "admin"; the server's processes end with the test."""
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(migrated)
    password = secrets.token_hex(8)
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{folder / 'auth.db'}\n"
        f"admin_username = admin\nadmin_password = {password}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    uri = f"http://127.0.0.1:{_free_port()}"
    environment = os.environ | {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
    command += ["--host", "127.0.0.1", "--port", uri.rsplit(":", 1)[1], "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        _wait(uri, process, folder / "log.txt")
        yield uri, password
    finally:
        with suppress(ProcessLookupError):  # it could not start
            os.killpg(process.pid, signal.SIGKILL)  # nothing of it is kept
        process.wait(60)


def _wait(uri: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"no server: {log.read_text()[-2000:]}")


def test_runs_go_to_a_server_with_a_password(
    server: tuple[str, str],
    campaign: Campaign,
    pretrain: Run,
    evaluate: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign.uri, password = server
    campaign.write(pretrain, range(1, 1201))
    campaign.finish(pretrain)
    campaign.write(evaluate, range(0))
    campaign.finish(evaluate, 0.5)
    with pytest.raises(StoreError, match="MLFLOW_TRACKING_USERNAME"):
        campaign.track()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    first = campaign.track()
    assert (first.runs, first.created, first.problems) == (2, 2, [])
    steps = [step for step, _ in campaign.history(pretrain.key, "loss")]
    assert steps == [1, *range(7, 1200, 7), 1200]
    assert _downloaded(campaign, pretrain, "metrics.jsonl").count("\n") == 1200
    assert campaign.status(pretrain) == "FINISHED"
    again = campaign.track(verify=True)
    assert (again.runs, again.created, again.points) == (2, 0, 0)
    assert _downloaded(campaign, evaluate, "per_class_iou.csv").startswith('"class",iou\n')
    assert _downloaded(campaign, evaluate, "pictures/0.png") == "picture"


def _downloaded(campaign: Campaign, run: Run, name: str) -> str:
    from mlflow.artifacts import download_artifacts

    run_id = campaign.mlflow_runs()[run.key].info.run_id
    path = download_artifacts(run_id=run_id, artifact_path=name, tracking_uri=campaign.uri)
    return Path(path).read_text()

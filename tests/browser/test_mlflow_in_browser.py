"""MLflow's UI on our import: a run by the report's link, and two runs compared."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import pytest
from chromium import visit
from filled_campaign import fill
from tiny_campaign import PUBLISHED

from cp2.record.mlflow_links import MlflowLinks, read_links
from cp2.reporting.report import write_report
from cp2.tracking.mlflow_import import Tracker

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and SQLAlchemy's own
PATIENCE = 180.0  # seconds for the server to start on a loaded machine
SIZES = [("wide", 960, 1500), ("narrow", 390, 844)]
DRAWN = 6_000  # milliseconds until its charts, which say nothing when they are ready, are drawn
SHOWN = 60_000  # milliseconds until the UI, which loads in parts, shows a text


class Ui(NamedTuple):
    """A server, and MLflow's ids of what it shows."""

    address: str
    links: MlflowLinks
    page: Path

    def key(self, start: str, number: int = 0) -> str:
        return [key for key in self.links.runs if key.startswith(start)][number]

    def compared(self, first: str, second: str) -> str:
        runs = quote(json.dumps([self.links.runs[first], self.links.runs[second]]))
        experiments = quote(json.dumps([self.links.experiment]))
        return f"{self.address}/#/compare-runs?runs={runs}&experiments={experiments}"

    def run(self, key: str, tab: str = "") -> str:
        run = self.links.runs[key]
        return f"{self.address}/#/experiments/{self.links.experiment}/runs/{run}{tab}"

    def rows(self, table: str) -> str:
        """The rows of a table as bars."""
        search = quote(f"tags.stage = 'row' and tags.table = '{table}'")
        place = f"{self.address}/#/experiments/{self.links.experiment}/runs"
        return f"{place}?searchFilter={search}&compareRunsMode=CHART"


@pytest.fixture(scope="module")
def ui(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """A campaign of these tests alone, imported through its server; or another one's database.

    REPORT_PAGE=file://<page> shows what `cp2 track` left in REPORT_DATABASE (results/mlflow.db).
    """
    folder = tmp_path_factory.mktemp("mlflow")
    if page := os.environ.get("REPORT_PAGE"):
        shutil.copy(os.environ.get("REPORT_DATABASE", "results/mlflow.db"), folder / "mlflow.db")
        path = Path(unquote(urlsplit(page).path))
        with _server(folder) as address:
            yield Ui(address, read_links(path.parent), path)
        return
    configuration, plan = fill(folder)
    with _server(folder) as address:
        assert Tracker(configuration, plan, address).track().runs > 10
        links = read_links(configuration.reports)
        assert links.ui == address
        yield Ui(address, links, write_report(configuration, plan, PUBLISHED).resolve())


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Address of an MLflow server on the folder's database; its processes end with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
    command += ["--port", address.rpartition(":")[2]]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | quiet,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + PATIENCE
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"no server: {(folder / 'log.txt').read_text()[-2000:]}")
            time.sleep(0.5)
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _show(page: Any, text: str, state: str = "visible") -> None:
    page.get_by_text(text).first.wait_for(timeout=SHOWN, state=state)


def _epochs(key: str) -> int:
    """Of a pretraining, by its id: cp2-resnet-tiny-aspp-tiny-e12-s0-3b0edd6d."""
    return int(key.rsplit("-", 3)[1].removeprefix("e"))


def _clear(page: Any) -> None:
    """Give the page its whole width, and wait for its charts."""
    for name in ("Close", "Toggle sidebar"):
        button = page.get_by_role("button", name=name, exact=True)
        if button.count() == 1:
            button.click()
    page.wait_for_timeout(DRAWN)


@pytest.mark.skipif("REPORT_PAGE" in os.environ, reason="the page links to where its UI was")
def test_the_report_leads_to_mlflow(browser: Any, ui: Ui) -> None:
    key = ui.key("evaluate/")
    with visit(browser, ui.page.as_uri()) as seen:
        hrefs = seen.page.locator("a[rel=external]").evaluate_all("all => all.map(a => a.href)")
        assert ui.links.link(key) in hrefs
        assert seen.errors == []
    with visit(browser, ui.links.link(key)) as seen:
        _show(seen.page, key.partition("/")[2])
        assert seen.thrown == []


def test_two_runs_are_compared(browser: Any, ui: Ui) -> None:
    """The console is not looked at: the UI asks for parts that this server does not have."""
    first, second = ui.key("evaluate/", 0), ui.key("evaluate/", 1)
    with visit(browser, ui.compared(first, second)) as seen:
        for key in (first, second):
            _show(seen.page, key.partition("/")[2])
        assert "Comparing 2 Runs" in seen.page.locator("body").inner_text()
        assert seen.thrown == []


@pytest.mark.parametrize(("name", "width", "height"), SIZES)
@pytest.mark.parametrize("what", ["rows", "compare", "curves"])
def test_mlflow_fits_the_screen(
    browser: Any, ui: Ui, tmp_path: Path, what: str, name: str, width: int, height: int
) -> None:
    """With REPORT_PICTURES=<folder> the pictures for the documents are kept there."""
    row = ui.key("row/")
    table = row.split("/")[1]
    pretrain = max((k for k in ui.links.runs if k.startswith("pretrain/cp2-res")), key=_epochs)
    places = {
        "rows": (ui.rows(table), f"{row.split('/', 2)[2]} · {table}"),
        "compare": (ui.compared(row, ui.key(f"row/{table}/", 1)), "Comparing 2 Runs"),
        "curves": (ui.run(pretrain, "/model-metrics"), pretrain.partition("/")[2]),
    }
    address, text = places[what]
    with visit(browser, address, width, height) as seen:
        # On a phone, MLflow's side bar may lie over what is there.
        _show(seen.page, text, "visible" if name == "wide" else "attached")
        assert seen.thrown == []
        keep = os.environ.get("REPORT_PICTURES") if name == "wide" else None
        if keep:
            _clear(seen.page)
        folder = Path(keep or tmp_path)
        seen.page.screenshot(path=folder / f"mlflow-{what}.png")

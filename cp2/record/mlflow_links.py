"""What an import into MLflow leaves for the page and for Snakemake: links, and refusals."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from cp2.errors import WrongFile
from cp2.record.digest import digest
from cp2.record.files import read_json, write_json
from cp2.record.lines import append_line
from cp2.redaction import plain_urls

FILE = "mlflow.json"  # in the campaign's folder of reports
_FAILED = "logs/track.failed"  # there, too; a line for each import that a store refused
_WEB = ("http://", "https://")
LOCAL = "http://127.0.0.1:5000"  # where `make mlflow` shows a database


@dataclass(frozen=True)
class MlflowLinks:
    """MLflow's ids of an experiment and of its runs, and the address of the UI.

    Attributes:
        store: tells one store from another; holds neither password nor path.
        seen: digest of the records that the import saw that wrote this; "": it left some out.
    """

    ui: str
    experiment: str
    runs: dict[str, str]
    store: str = ""
    seen: str = ""

    def are_of(self, uri: str, seen: str) -> bool:
        """Whether an import of these records into this store wrote this."""
        return self.store == _store(uri) and self.seen == seen != ""

    def link(self, key: str) -> str | None:
        """Address of a run's page; None where MLflow does not have it."""
        run = self.runs.get(key)
        return f"{self.ui}/#/experiments/{self.experiment}/runs/{run}" if run else None


def write_links(
    folder: Path, uri: str, experiment: str, runs: dict[str, str], seen: str = ""
) -> None:
    """Write <folder>/mlflow.json: run key -> MLflow's id; a password in the URI is left out."""
    plain = plain_urls(uri).rstrip("/")
    ui = plain if plain.startswith(_WEB) else LOCAL
    links = MlflowLinks(ui, experiment, runs, _store(uri), seen)
    write_json(folder / FILE, asdict(links))


def drop_foreign_links(folder: Path, uri: str) -> None:
    """Remove links that lead into another store than that of the URI."""
    if read_links(folder).store != _store(uri):
        (folder / FILE).unlink(missing_ok=True)


def _store(uri: str) -> str:
    return digest(plain_urls(uri).rstrip("/"))[:8]


def read_links(folder: Path) -> MlflowLinks:
    """What was written; nothing where nothing was imported, or by another version."""
    try:
        content = read_json(folder / FILE)
        runs = dict(content["runs"])
        more = {name: str(content.get(name, "")) for name in ("store", "seen")}
        if content["ui"].startswith(_WEB):  # a link of another kind could run something
            return MlflowLinks(content["ui"], content["experiment"], runs, **more)
    except (WrongFile, AttributeError, KeyError, TypeError, ValueError):
        pass
    return MlflowLinks(LOCAL, "", {})


def count_failed(reports: Path) -> int:
    """How many imports a store refused so far; Snakemake asks again when it changes."""
    path = reports / _FAILED
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def add_failed(reports: Path) -> None:
    """Count an import that a store refused."""
    (reports / _FAILED).parent.mkdir(parents=True, exist_ok=True)
    append_line(reports / _FAILED, time.strftime("%Y-%m-%d %H:%M:%S"))

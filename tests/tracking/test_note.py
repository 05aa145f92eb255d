"""`cp2 track --note`: what a store refuses stops no report; what is interrupted or wrong does."""

from pathlib import Path

import pytest
from imported import Campaign
from typer.testing import CliRunner, Result

from cp2.cli.main import app
from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.record.mlflow_links import count_failed, read_links
from cp2.tracking.mlflow_import import Tracker
from cp2.tracking.store import StoreError

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and SQLAlchemy's own


@pytest.fixture
def note(campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "configs").symlink_to(Path("configs").resolve())
    monkeypatch.chdir(tmp_path)
    return campaign.configuration.reports / "tracked.txt"


def _import(campaign: Campaign, note: Path, uri: str = "", *more: str) -> Result:
    places = [f"--set={text}" for text in campaign.configuration.assignments]
    options = ["--note", str(note), "--uri", uri or campaign.uri, *places, *more]
    return CliRunner().invoke(app, ["track", *options])


def _raise(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def track(tracker: Tracker, verify: bool = False) -> None:
        raise error

    monkeypatch.setattr(Tracker, "track", track)


def test_an_import_is_noted_with_what_it_left_out(
    campaign: Campaign, pretrain: Run, evaluate: Run, note: Path
) -> None:
    campaign.write(pretrain, range(1, 3))
    campaign.write(evaluate, range(0))
    evaluate.folder(campaign.results).recipe.write_text("[")
    done = _import(campaign, note)
    assert done.exit_code == 0
    lines = note.read_text().splitlines()
    assert "1 new, 2 new metric values, 1 left out" in lines[0]
    assert str(evaluate.folder(campaign.results).recipe) in lines[1]
    assert count_failed(campaign.configuration.reports) == 0


def test_a_store_that_refuses_is_noted_counted_and_no_failure(
    campaign: Campaign, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raise(monkeypatch, StoreError("it is away"))
    for times in (1, 2):
        done = _import(campaign, note)
        assert (done.exit_code, done.stderr) == (0, "not imported: it is away\n")
        assert note.read_text() == "not imported:\nerror: it is away\n"
        assert count_failed(campaign.configuration.reports) == times


def test_a_folder_as_store_refuses_too(campaign: Campaign, note: Path) -> None:
    assert _import(campaign, note, "file:mlruns").exit_code == 0
    assert "MLflow no longer writes to folders" in note.read_text()


def test_links_into_a_store_that_refuses_stay_and_those_into_another_go(
    campaign: Campaign, pretrain: Run, note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign.write(pretrain, range(1, 3))
    _import(campaign, note)
    reports = campaign.configuration.reports
    assert read_links(reports).link(pretrain.key)
    _raise(monkeypatch, StoreError("it is away"))
    _import(campaign, note)
    assert read_links(reports).link(pretrain.key)
    _import(campaign, note, "sqlite:///another.db")
    assert read_links(reports).link(pretrain.key) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("another import works")])
def test_what_is_interrupted_or_wrong_fails_without_a_note(
    campaign: Campaign, note: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    _raise(monkeypatch, error)
    assert _import(campaign, note).exit_code != 0
    assert not note.exists()
    assert count_failed(campaign.configuration.reports) == 0


def test_a_live_view_has_no_note(campaign: Campaign, note: Path) -> None:
    done = _import(campaign, note, "", "--watch")
    assert isinstance(done.exception, UserError)
    assert "leave --watch or --note out" in str(done.exception)

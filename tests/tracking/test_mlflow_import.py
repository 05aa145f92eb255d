"""The import is idempotent and incremental, also after it was broken off."""

import json
from pathlib import Path

import pytest
from imported import START, Campaign, folders
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.record.lock import hold
from cp2.settings.load import load_campaign
from cp2.tracking import mlflow_import
from cp2.tracking import store as store_file
from cp2.tracking.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and SQLAlchemy's own


def test_a_second_import_adds_nothing(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 4))
    campaign.finish(pretrain)
    first = campaign.track()
    assert (first.runs, first.created, first.points) == (1, 1, 3)
    second = campaign.track()
    assert (second.runs, second.created, second.points) == (1, 0, 0)
    assert campaign.children() == [pretrain.key]
    assert campaign.history(pretrain.key, "loss") == [(1, 9.0), (2, 8.0), (3, 7.0)]


def test_probes_of_snapshots_join_the_run_once(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 4))
    campaign.finish(pretrain)
    campaign.track()
    file, name = pretrain.folder(campaign.results).probes, "probe/voc/knn_miou"
    lines = [f'{{"step": {step}, "time": {step}, "{name}": 0.{step}}}\n' for step in (2, 3)]
    for count in (1, 2):
        file.write_text("".join(lines[:count]))
        assert campaign.track().points == 1
    assert campaign.track().points == 0
    assert campaign.history(pretrain.key, name) == [(2, 0.2), (3, 0.3)]


def test_nothing_new_asks_nobody(
    campaign: Campaign, pretrain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign.write(pretrain, range(1, 4))
    campaign.finish(pretrain)
    campaign.track()
    monkeypatch.setattr(Store, "_client", property(lambda _: pytest.fail("connected")))
    assert str(campaign.track()).startswith("1 runs in experiment 'demo' at sqlite:///")


def test_a_run_in_progress_gains_its_new_steps(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 3))
    with pretrain.folder(campaign.results).locked():
        campaign.track()
        assert campaign.status(pretrain) == "RUNNING"
        campaign.write(pretrain, range(3, 6))
        assert campaign.track().points == 3
    assert [step for step, _ in campaign.history(pretrain.key, "loss")] == [1, 2, 3, 4, 5]
    campaign.finish(pretrain)
    assert campaign.track().points == 0
    info = campaign.mlflow_runs()[pretrain.key].info
    assert (info.status, info.start_time, info.end_time) == ("FINISHED", 1_000_000, 5_000_000)


def test_a_resumed_attempt_doubles_no_steps(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 5))
    campaign.attempt(pretrain, 1, None)
    campaign.track()
    before = campaign.mlflow_runs()[pretrain.key].info.run_id
    metrics = pretrain.folder(campaign.results).metrics
    kept = metrics.read_text().splitlines(keepends=True)[:2]
    metrics.write_text("".join(kept))  # went back to the save after step 2
    assert campaign.track().points == 0
    campaign.attempt(pretrain, 2, "saved")
    campaign.write(pretrain, range(3, 7), begin=9000.0, attempt=2)
    again = campaign.track()
    assert (again.runs, again.created) == (1, 0)
    run = campaign.mlflow_runs()[pretrain.key]
    assert run.info.run_id == before
    assert run.data.tags["attempts"] == "2"
    assert [step for step, _ in campaign.history(pretrain.key, "loss")] == [1, 2, 3, 4, 5, 6]


def test_a_run_made_again_from_the_start_replaces_the_first(
    campaign: Campaign, pretrain: Run
) -> None:
    campaign.write(pretrain, range(1, 5))
    campaign.track()
    pretrain.folder(campaign.results).metrics.unlink()
    campaign.write(pretrain, range(1, 3), begin=9000.0)
    assert campaign.track().created == 1
    assert campaign.children() == [pretrain.key]
    assert [step for step, _ in campaign.history(pretrain.key, "loss")] == [1, 2]


@pytest.mark.parametrize(
    ("outcome", "error", "status"),
    [("failed", "boom", "FAILED"), (None, None, "KILLED"), ("saved", None, "SCHEDULED")],
)
def test_an_ended_attempt_is_not_running(
    campaign: Campaign, pretrain: Run, outcome: str | None, error: str | None, status: str
) -> None:
    campaign.write(pretrain, range(1, 3))
    campaign.attempt(pretrain, 1, outcome, error)
    with pretrain.folder(campaign.results).locked():
        campaign.track()
        assert campaign.status(pretrain) == "RUNNING"
    campaign.track()
    assert campaign.status(pretrain) == status
    assert campaign.mlflow_runs()[pretrain.key].data.tags["error"] == (error or "")
    with pretrain.folder(campaign.results).locked():  # the next attempt
        campaign.track()
        assert campaign.status(pretrain) == "RUNNING"


@pytest.mark.parametrize("metrics", [1, 5, 6])
def test_more_points_than_a_request_takes(campaign: Campaign, pretrain: Run, metrics: int) -> None:
    folder = pretrain.folder(campaign.results)
    campaign.write(pretrain, range(0))
    names = [f"m{n}" for n in range(metrics)]
    lines = [{"step": s, "time": 7.0 + s} | dict.fromkeys(names, s / 2) for s in range(190)]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert campaign.track().points == 190 * metrics
    for name in names:
        assert campaign.history(pretrain.key, name) == [(s, s / 2) for s in range(190)]
        data = campaign.mlflow_runs()[pretrain.key].data  # from MLflow's table of latest values
        assert data.metrics[name] == 189 / 2


def test_an_import_that_broke_off_goes_on(
    campaign: Campaign, pretrain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [run for run in campaign.plan.stage("pretrain") if run is not pretrain][:1]
    for run in (pretrain, *others):
        campaign.write(run, range(1, 191))
        campaign.finish(run)
    sent = Store.log

    def broken(store: Store, run_id: str, *args: object, **kwargs: object) -> None:
        sent(store, run_id, *args, **kwargs)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(Store, "log", broken)
        with pytest.raises(KeyboardInterrupt):
            campaign.track()
    campaign.track()
    assert sorted(campaign.children()) == sorted(run.key for run in (pretrain, *others))
    for run in (pretrain, *others):
        assert [step for step, _ in campaign.history(run.key, "loss")] == list(range(1, 191))


def test_without_the_links_the_tags_tell_what_was_sent(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 4))
    campaign.finish(pretrain)
    campaign.track()
    links = campaign.configuration.reports / "mlflow.json"
    for content in ("", "{", '{"ui": 3}', "[]"):
        links.write_text(content)
        again = campaign.track()
        assert (again.runs, again.created, again.points) == (1, 0, 0)


def test_a_run_deleted_in_mlflow(campaign: Campaign, pretrain: Run) -> None:
    """It stays deleted until it has news or somebody asks for it."""
    campaign.write(pretrain, range(1, 4))
    campaign.track()
    client = MlflowClient(campaign.uri)
    other = next(run for run in campaign.plan.stage("pretrain") if run is not pretrain)

    def delete() -> None:
        client.delete_run(campaign.mlflow_runs()[pretrain.key].info.run_id)

    delete()
    assert campaign.track().created == 0
    campaign.write(other, range(1, 4))
    assert campaign.track().created == 1  # the other one
    assert other.key in campaign.children()
    assert pretrain.key not in campaign.children()
    assert campaign.track(verify=True).created == 1
    delete()
    campaign.write(pretrain, range(4, 6))
    assert campaign.track().created == 1
    assert [step for step, _ in campaign.history(pretrain.key, "loss")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("gone", ["in the bin", "for good"])
@pytest.mark.parametrize("what", ["run", "row"])
@pytest.mark.parametrize("news", ["finished", "again from the first step", "a step"])
def test_what_was_deleted_in_mlflow_comes_back_with_its_news(
    campaign: Campaign, pretrain: Run, gone: str, what: str, news: str
) -> None:
    """Whichever call meets it first: the status, files, points, or the deletion of an old run."""
    campaign.write(pretrain, range(1, 4))
    campaign.track()
    runs = campaign.mlflow_runs()
    (row,) = (key for key in runs if key.startswith("row/"))
    deleted = runs[row if what == "row" else pretrain.key].info.run_id
    client = MlflowClient(campaign.uri)
    if gone == "for good":
        SqlAlchemyStore(campaign.uri, "")._hard_delete_run(deleted)  # what `mlflow gc` calls
    else:
        client.delete_run(deleted)
    steps = 3
    if news == "finished":
        campaign.finish(pretrain)
    elif news == "a step":
        steps = 4
        campaign.write(pretrain, range(4, 5))
    else:
        pretrain.folder(campaign.results).metrics.unlink()
        campaign.write(pretrain, range(1, 4), begin=9000.0)
    assert campaign.track().problems == []
    found = campaign.mlflow_runs()
    assert set(found) == {row, pretrain.key}
    assert found[pretrain.key].data.tags["mlflow.parentRunId"] == found[row].info.run_id
    assert [step for step, _ in campaign.history(pretrain.key, "loss")] == list(range(1, steps + 1))
    assert found[pretrain.key].data.params["epochs"]
    assert campaign.track(verify=True).points == 0


def test_a_deleted_database_is_made_again(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 4))
    campaign.finish(pretrain)
    campaign.track()
    database = Path(campaign.uri.removeprefix("sqlite:///"))
    database.unlink()
    # MLflow keeps the engine of a URI: another process would open the new file.
    other = Campaign(campaign.configuration, campaign.uri.replace("mlflow.db", "./mlflow.db"))
    assert other.track().created == 1
    assert other.children() == [pretrain.key]


def test_a_deleted_experiment_comes_back(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 2))
    campaign.track()
    client = MlflowClient(campaign.uri)
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    assert campaign.track(verify=True).runs == 1
    assert campaign.children() == [pretrain.key]


def test_records_that_are_damaged_are_left_out_and_named(campaign: Campaign, pretrain: Run) -> None:
    first, second = [run for run in campaign.plan.stage("pretrain") if run is not pretrain][:2]
    for run in (pretrain, first, second):
        campaign.write(run, range(1, 3))
    first.folder(campaign.results).recipe.write_text('{"recipe": {')
    copied = pretrain.folder(campaign.results).recipe.read_text()
    second.folder(campaign.results).recipe.write_text(copied)
    summary = campaign.track()
    assert campaign.children() == [pretrain.key]
    assert "left out" in str(summary)
    damaged, copy = sorted(summary.problems, key=lambda text: "is of run" in text)
    assert "is not readable JSON" in damaged
    assert f"is of run {pretrain.id!r}, the folder is {second.id!r}'s" in copy


def test_a_folder_without_a_recipe_is_no_run_yet(campaign: Campaign, pretrain: Run) -> None:
    folder = pretrain.folder(campaign.results)
    folder.path.mkdir(parents=True)
    folder.metrics.write_text('{"step": 1, "time": 5.0, "loss": 1.0}\n')
    assert campaign.track().runs == 0


def test_two_results_folders_with_one_id(campaign: Campaign, pretrain: Run, tmp_path: Path) -> None:
    campaign.write(pretrain, range(1, 4))
    campaign.track()
    other = Campaign(load_campaign("demo", folders(tmp_path / "other")), campaign.uri)
    other.write(pretrain, range(1, 4), begin=START + 77)
    summary = other.track()
    assert "Two folders have one id" in summary.problems[0]
    assert str(campaign.results) in summary.problems[0]
    assert len(campaign.history(pretrain.key, "loss")) == 3


def test_one_import_at_a_time(
    campaign: Campaign, pretrain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign.write(pretrain, range(1, 2))
    campaign.track()
    (folder,) = (campaign.results / "tracking").iterdir()
    monkeypatch.setattr(mlflow_import, "PATIENCE", 0.0)
    monkeypatch.setattr("cp2.record.lock.PATIENCE_SECONDS", 0.0)
    with hold(folder), pytest.raises(UserError, match="working on"):
        campaign.track()


@pytest.mark.parametrize("uri", ["file:./mlruns", "mlruns"])
def test_a_folder_is_refused(campaign: Campaign, uri: str) -> None:
    campaign.uri = uri
    with pytest.raises(UserError, match=r"no longer writes to folders; give sqlite:///<file>\.db"):
        campaign.track()


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:secret@127.0.0.1:9",
        "mysql+mysqldb://me:secret@db.local/mlflow",  # whose driver is not here
        "foo://bar",
        "sqlite:///{file}/m.db",
    ],
)
def test_a_store_that_does_not_answer_is_named(campaign: Campaign, pretrain: Run, uri: str) -> None:
    campaign.write(pretrain, range(1, 2))
    metrics = pretrain.folder(campaign.results).metrics
    campaign.uri = uri.format(file=metrics)  # a file where a folder should be
    before = metrics.read_bytes()
    with pytest.raises(store_file.StoreError) as error:
        campaign.track()
    assert repr(campaign.uri.replace("me:secret@", "")) in str(error.value)
    assert "secret" not in str(error.value)
    assert "Nothing is lost" in str(error.value)
    assert metrics.read_bytes() == before

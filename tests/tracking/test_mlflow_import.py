"""The import is idempotent and incremental, and says what is wrong with a URI."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.graph import Plan, Run
from cp2.record.files import write_json
from cp2.settings.load import Configuration, load_campaign
from cp2.tracking.mlflow_import import TrackSummary, track

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and SQLAlchemy's own


class Campaign:
    """The demo campaign with its results in a temporary folder, and a view of its database."""

    def __init__(self, configuration: Configuration, uri: str) -> None:
        self.configuration = configuration
        self.plan: Plan = build_plan(configuration)
        self.uri = uri

    def track(self) -> TrackSummary:
        return track(self.configuration, self.plan, self.uri)

    def mlflow_runs(self) -> dict[str, Any]:
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name("demo")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        return {run.data.tags["cp2.run_id"]: run for run in runs}

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        client = MlflowClient(self.uri)
        points = client.get_metric_history(self.mlflow_runs()[run.key].info.run_id, metric)
        return sorted((point.step, point.value) for point in points)

    def write(self, run: Run, steps: range, begin: float = 0.0, attempt: int = 1) -> None:
        """A run in progress: its recipe, environment and lines for `steps`."""
        folder = run.folder(self.configuration.results)
        write_json(folder.recipe, {"recipe": run.recipe.model_dump(mode="json"), "tags": run.tags})
        environment = {"git_commit": "abc", "host": "node7", "device": "cpu", "attempt": attempt}
        write_json(folder.environment, environment | {"started": begin})
        with folder.metrics.open("a", encoding="utf-8") as file:
            for s in steps:
                line = {"step": s, "time": begin + s, "loss": 10.0 - s, "loss_dense": None}
                file.write(json.dumps(line) + "\n")

    def finish(self, run: Run, scores: dict[str, Any] | None = None) -> None:
        folder = run.folder(self.configuration.results)
        if scores:
            write_json(folder.scores, scores)
        folder.pictures.mkdir(exist_ok=True)
        (folder.pictures / "0.png").write_bytes(b"picture")
        write_json(folder.done, {"finished": 500.0, "seconds": 60.0})


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An empty database with its schema, made once: the migrations take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture
def campaign(tmp_path: Path, migrated: bytes) -> Campaign:
    (tmp_path / "mlflow.db").write_bytes(migrated)
    configuration = load_campaign("demo", [f"campaign.execution.results={tmp_path / 'results'}"])
    return Campaign(configuration, f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def pretrain(campaign: Campaign) -> Run:
    return next(run for run in campaign.plan.stage("pretrain") if run.tags["method"] == "cp2")


def test_a_second_import_adds_nothing(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 4))
    campaign.finish(pretrain)
    first = campaign.track()
    assert (first.runs, first.created, first.points) == (1, 1, 3)
    second = campaign.track()
    assert (second.runs, second.created, second.points) == (1, 0, 0)
    assert list(campaign.mlflow_runs()) == [pretrain.key]
    assert campaign.history(pretrain, "loss") == [(1, 9.0), (2, 8.0), (3, 7.0)]


def test_a_run_in_progress_gains_its_new_steps(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 3))
    campaign.track()
    assert campaign.mlflow_runs()[pretrain.key].info.status == "RUNNING"
    campaign.write(pretrain, range(3, 6))
    assert campaign.track().points == 3
    assert [step for step, _ in campaign.history(pretrain, "loss")] == [1, 2, 3, 4, 5]
    campaign.finish(pretrain)
    assert campaign.track().points == 0
    info = campaign.mlflow_runs()[pretrain.key].info
    assert (info.status, info.end_time) == ("FINISHED", 500_000)


def test_a_resumed_attempt_doubles_no_steps(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 5))
    campaign.track()
    metrics = pretrain.folder(campaign.configuration.results).metrics
    kept = metrics.read_text().splitlines(keepends=True)[:2]
    metrics.write_text("".join(kept))  # went back to the save after step 2
    assert campaign.track().points == 0
    campaign.write(pretrain, range(3, 7), begin=100.0, attempt=2)
    again = campaign.track()
    assert (again.runs, again.created) == (1, 1)  # steps 3 and 4 have other times: sent anew
    assert list(campaign.mlflow_runs()) == [pretrain.key]
    assert [step for step, _ in campaign.history(pretrain, "loss")] == [1, 2, 3, 4, 5, 6]
    assert campaign.mlflow_runs()[pretrain.key].data.tags["attempt"] == "2"


def test_tags_params_and_artifacts(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 2))
    campaign.finish(pretrain)
    campaign.track()
    run = campaign.mlflow_runs()[pretrain.key]
    tags = {
        "stage": "pretrain",
        "run_id": pretrain.id,
        "method": "cp2",
        "seed": "0",
        "git_commit": "abc",
        "host": "node7",
        "device": "cpu",
        **pretrain.tags,
    }
    assert tags.items() <= run.data.tags.items()
    assert "cp2_deeplabv3" in run.data.tags["tables"]
    assert run.info.run_name == pretrain.id
    assert run.data.params["epochs"] == str(pretrain.recipe.epochs)
    assert run.data.params["method.views.crop_size"] == "96"
    assert run.data.params["start"] == "null"
    client = MlflowClient(campaign.uri)
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert names == {"recipe.json", "pictures"}


def test_scores_stand_in_the_evaluation_and_in_its_finetuning(campaign: Campaign) -> None:
    evaluate = next(campaign.plan.stage("evaluate"))
    finetune = campaign.plan.run("finetune", evaluate.need("finetune") or "")
    campaign.write(finetune, range(1, 3))
    campaign.finish(finetune)
    campaign.track()
    campaign.write(evaluate, range(0))
    scores = {"miou": 0.5, "accuracy": 0.75, "mean_accuracy": None}
    campaign.finish(evaluate, scores | {"split": "val", "dataset": "demo-voc2012"})
    campaign.track()
    campaign.track()
    for run in (evaluate, finetune):
        assert campaign.history(run, "val/demo-voc2012/miou") == [(0, 0.5)]
        assert campaign.history(run, "val/demo-voc2012/accuracy") == [(0, 0.75)]
        assert campaign.history(run, "val/demo-voc2012/mean_accuracy") == []


@pytest.mark.parametrize("steps", [499, 500, 1001])
def test_more_points_than_a_request_takes(campaign: Campaign, pretrain: Run, steps: int) -> None:
    folder = pretrain.folder(campaign.configuration.results)
    campaign.write(pretrain, range(0))
    lines = [{"step": s, "time": s, "a": 1.0, "b": 2.0} for s in range(steps)]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert campaign.track().points == 2 * steps
    assert len(campaign.history(pretrain, "b")) == steps


def test_a_deleted_experiment_comes_back(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 2))
    campaign.track()
    client = MlflowClient(campaign.uri)
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    assert campaign.track().runs == 1
    assert list(campaign.mlflow_runs()) == [pretrain.key]


@pytest.mark.parametrize("uri", ["file:./mlruns", "mlruns"])
def test_a_folder_is_refused(campaign: Campaign, uri: str) -> None:
    with pytest.raises(UserError, match=r"no longer writes to folders; give sqlite:///<file>\.db"):
        track(campaign.configuration, campaign.plan, uri)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "foo://bar", "sqlite:///{file}/m.db"])
def test_a_store_that_does_not_answer_is_named(
    campaign: Campaign, pretrain: Run, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    campaign.write(pretrain, range(1, 2))
    metrics = pretrain.folder(campaign.configuration.results).metrics
    uri = uri.format(file=metrics)  # a file where a folder should be
    before = metrics.read_bytes()
    with pytest.raises(UserError) as error:
        track(campaign.configuration, campaign.plan, uri)
    assert uri in str(error.value)
    assert "Nothing is lost" in str(error.value)
    assert metrics.read_bytes() == before

"""Tags, params, metric names and artifacts: what comparing needs."""

import csv
import json
import re

import pytest
from imported import Campaign
from mlflow.tracking import MlflowClient

from cp2.plan.graph import Run
from cp2.plan.protocols.segmentation import SegmentationEvaluateRecipe
from cp2.record.files import read_json, write_json
from cp2.record.readers import Scores
from cp2.tracking.content import LONGEST_PARAM, class_table, safe_name, step_points

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and SQLAlchemy's own


def test_tags_params_and_artifacts(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 2))
    folder = pretrain.folder(campaign.results)
    folder.log.write_text("step 1\n")
    campaign.attempt(pretrain, 1, "done")
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
        "table": "cp2_deeplabv3",
        "scale": "demo",
        "campaign": "demo",
        "attempts": "1",
        "model.path": str(folder.model.resolve()),
        "model.sha256": "f" * 64,
        **pretrain.tags,
    }
    assert tags.items() <= run.data.tags.items()
    assert run.info.run_name == pretrain.id
    assert run.data.params["epochs"] == str(pretrain.recipe.epochs)
    assert run.data.params["method.views.crop_size"] == "96"
    assert run.data.params["start"] == "null"
    client = MlflowClient(campaign.uri)
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert names == {
        "recipe.json",
        "environment.json",
        "attempts.jsonl",
        "log.txt",
        "metrics.jsonl",
        "pictures",
    }
    (picture,) = client.list_artifacts(run.info.run_id, "pictures")
    assert picture.path == "pictures/0.png"


def test_a_model_is_uploaded_when_asked(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 2))
    campaign.finish(pretrain)
    campaign.track()
    client = MlflowClient(campaign.uri)
    run_id = campaign.mlflow_runs()[pretrain.key].info.run_id
    model = pretrain.folder(campaign.results).model.name
    assert model not in {item.path for item in client.list_artifacts(run_id)}
    campaign.tracker(upload_models=True).track()
    assert campaign.mlflow_runs()[pretrain.key].info.run_id == run_id
    assert model in {item.path for item in client.list_artifacts(run_id)}


def test_scores_stand_in_the_evaluation_and_in_its_finetuning(
    campaign: Campaign, evaluate: Run
) -> None:
    finetune = campaign.plan.run("finetune", evaluate.need("finetune") or "")
    campaign.write(finetune, range(1, 3))
    campaign.finish(finetune)
    campaign.track()
    campaign.write(evaluate, range(0))
    campaign.finish(evaluate, 0.5)
    campaign.track()
    campaign.track()
    name = f"val/{evaluate.tags['dataset']}"
    for key in (evaluate.key, finetune.key):
        assert campaign.history(key, f"{name}/miou") == [(0, 0.5)]
        assert campaign.history(key, f"{name}/accuracy") == [(0, 0.75)]
        assert campaign.history(key, f"{name}/mean_accuracy") == []
    client = MlflowClient(campaign.uri)
    run_id = campaign.mlflow_runs()[evaluate.key].info.run_id
    names = {item.path for item in client.list_artifacts(run_id)}
    assert "per_class_iou.csv" in names


def test_a_score_knows_its_pretraining(campaign: Campaign) -> None:
    """So that the best weight or temperature can be asked for."""
    finetune = next(
        run
        for run in campaign.plan.stage("finetune")
        if run.need("pretrain") and run.tags["method"] == "cp2"
    )
    origin = campaign.plan.run("pretrain", finetune.need("pretrain") or "")
    campaign.write(finetune, range(1, 3))
    campaign.track()
    data = campaign.mlflow_runs()[finetune.key].data
    assert data.params["pretrain.method.temperature"] == str(origin.recipe.method.temperature)
    assert data.tags["pretrain_run_id"] == origin.id
    assert data.tags["variant"] == origin.tags["variant"]
    assert data.tags["dataset"] == finetune.tags["dataset"]


def test_a_row_is_the_parent_of_its_seeds(campaign: Campaign) -> None:
    table = campaign.plan.tables["cp2_deeplabv3"]
    cell = next(c for c in table.cells if len(c.runs) > 1 and c.row == "CP2 200")
    runs = [campaign.plan.runs[key] for key in cell.runs]
    metric = f"val/{runs[0].tags['dataset']}/miou"
    key = f"row/cp2_deeplabv3/{cell.row}"
    for n, run in enumerate(runs, 1):
        campaign.write(run, range(0))
        campaign.attempt(run, 1, "done", device="A100")
        campaign.finish(run, 0.25 * n, time=5000.0 + n)
        campaign.track()
        found = campaign.mlflow_runs()
        assert found[key].data.metrics[metric] == sum(0.25 * k for k in range(1, n + 1)) / n
    parent = found[key]
    assert {found[run.key].data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert parent.data.metrics[f"{metric}/n"] == len(runs)
    assert parent.data.metrics["cost/hours"] == len(runs)
    assert parent.data.metrics["cost/gpu_hours"] == 2 * len(runs)
    assert parent.data.params["pretrain.method.temperature"] == "0.2"
    assert parent.info.start_time == 1_000_000
    assert parent.info.status == "SCHEDULED"  # other columns wait
    assert parent.info.run_name == f"{cell.row} · cp2_deeplabv3"
    if len(runs) == 2:
        spread = parent.data.metrics[f"{metric}/std"]
        assert spread == pytest.approx(0.125 * 2**0.5)
    assert campaign.track().points == 0


def test_a_run_of_several_tables_names_them_all(campaign: Campaign) -> None:
    tables = campaign.plan.tables
    shared = next(
        run
        for run in campaign.plan.stage("pretrain")
        if all(run in campaign.plan.ancestors(table.runs) for table in tables.values())
    )
    campaign.write(shared, range(1, 2))
    campaign.track()
    tags = campaign.mlflow_runs()[shared.key].data.tags
    assert tags["tables"] == ", ".join(tables)
    assert tags["table"] == next(iter(tables))
    assert tags["row"] in tags["rows"].split(", ")


def test_long_and_odd_recipes_are_taken(campaign: Campaign, pretrain: Run) -> None:
    campaign.write(pretrain, range(1, 2))
    recipe = pretrain.folder(campaign.results).recipe
    odd = {"<b>lr</b>": 1, "a//b/../c": 2, "long": "x" * 9000, "ü" * 300: 3, "": 4, "名": 5}
    odd |= {f"k{i}": i for i in range(250)}
    write_json(recipe, read_json(recipe) | {"recipe": odd})
    with pretrain.folder(campaign.results).metrics.open("a") as file:
        line = {"step": 9, "time": 1009.0, "loss <i>": 1.0, "a//b": 2.0, "../x": 3.0}
        file.write(json.dumps(line) + "\n")
    assert campaign.track().problems == []
    data = campaign.mlflow_runs()[pretrain.key].data
    assert data.params["_b_lr_/b_"] == "1"
    assert data.params["a/b/c"] == "2"
    assert len(data.params["long"]) == LONGEST_PARAM
    assert data.params["k249"] == "249"
    assert {"loss _i_", "a/b", "x"} <= data.metrics.keys()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("val/voc2012/miou", "val/voc2012/miou"),
        ("CP² 200", "CP_ 200"),
        ("/etc/passwd", "etc/passwd"),
        ("..", "_"),
        ("", "_"),
        ("a" * 300, "a" * 250),
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    assert re.fullmatch(r"[\w\-. :/]+", safe)


def test_numbers_that_are_none_are_left_out() -> None:
    line = {"step": 1, "time": 2.0, "loss": 3, "a": None, "b": "text", "c": True}
    line |= {"d": float("nan"), "e": float("-inf"), "data_wait": 0.5}
    points = step_points([line])
    assert points == [("loss", 3.0, 1, 2.0), ("system/data_wait", 0.5, 1, 2.0)]


def test_the_table_of_classes_is_csv() -> None:
    scores = Scores(
        "val", "x", {}, {"sky": 0.123456, 'a "quoted", one': 1.0, "unseen": None, "=1+1": 0.0}
    )
    rows = list(csv.reader(class_table(scores, SegmentationEvaluateRecipe.per_class).splitlines()))
    assert rows == [
        ["class", "iou"],
        ["sky", "12.35"],
        ['a "quoted", one', "100.00"],
        ["unseen", ""],
        ["'=1+1", "0.00"],
    ]

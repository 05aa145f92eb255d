"""Runs that a Snakemake hands to its jobs: the same runs, or none."""

import json
from pathlib import Path

import pytest

from cp2.plan import workflow
from cp2.plan.planned import read_planned, write_planned
from cp2.plan.workflow import Workflow
from cp2.stages import ALGORITHM_VERSION, ON_CLUSTER


@pytest.fixture
def handed_on(tmp_path: Path, plan_of):
    plan = plan_of("demo", "methods.cp2.reading.cache=96")
    path = tmp_path / "planned.json"
    write_planned(path, plan)
    return plan, path


def test_every_job_gets_the_run_of_the_plan(handed_on) -> None:
    plan, path = handed_on
    runs = [run for run in plan.runs.values() if run.stage in ON_CLUSTER]
    assert {run.stage for run in runs} == set(ON_CLUSTER) - {"masks"}
    for run in runs:
        found = read_planned(path, run.stage, run.id)
        assert found == run
        assert found.tags == run.tags
        assert found.recipe.model_dump() == run.recipe.model_dump()  # unhashed fields, too


@pytest.mark.parametrize("damage", ["gone", "cut", "recipe", "need", "seed", "list", "version"])
def test_a_run_that_is_not_what_its_id_says_is_not_believed(
    handed_on, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, path = handed_on
    run = next(iter(plan.stage("finetune")))
    content = json.loads(path.read_text())
    match damage:
        case "recipe":
            content[run.key]["recipe"]["classes"] += 1
        case "need":
            content[run.key]["needs"][0][1] = "0" * 64
        case "seed":
            content[run.key]["seed"] = 7
        case "version":
            monkeypatch.setitem(ALGORITHM_VERSION, "finetune", 2)
        case "list":
            content = [1]
    text = json.dumps(content)
    path.write_text(text[:1000] if damage == "cut" else text)
    if damage == "gone":
        path.unlink()
    assert read_planned(path, "finetune", run.id) is None


def test_a_schedulers_job_plans_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan_of
) -> None:
    submitting = Workflow({"campaign": "demo"})
    submitting.planned = tmp_path / "planned.json"
    submitting.planned.parent.mkdir(exist_ok=True)
    submitting.hand_on()
    monkeypatch.setattr(workflow, "build_plan", lambda configuration: pytest.fail("planned"))
    job = Workflow({"campaign": "demo"}, in_job=True)
    job.planned = submitting.planned
    run = next(iter(submitting.plan.stage("evaluate")))
    assert job.needs("evaluate", run.id) == submitting.needs("evaluate", run.id)
    assert job.digest("evaluate", run.id) == run.digest
    assert job.resources("evaluate") == submitting.resources("evaluate")

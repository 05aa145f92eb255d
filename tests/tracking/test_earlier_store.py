"""A store that an earlier version filled (commit c4750a3) gets no run and no point twice.

It sent every line, had states of another form and no size of the log among its tags.
"""

import sqlite3

import pytest
from imported import Campaign
from mlflow.tracking import MlflowClient

from cp2.plan.graph import Run
from cp2.tracking import run_import

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and SQLAlchemy's own
LINES = 500


@pytest.fixture
def finetune(campaign: Campaign, evaluate: Run) -> Run:
    return campaign.plan.run("finetune", evaluate.need("finetune") or "")


@pytest.fixture
def before(campaign: Campaign, evaluate: Run, finetune: Run, pretrain: Run) -> Campaign:
    """A finished run, a killed one, an evaluation of it, and their rows, as it left them."""
    for run in (pretrain, finetune):
        campaign.write(run, range(1, LINES + 1))
        campaign.attempt(run, 1, None)
    campaign.finish(pretrain)
    campaign.write(evaluate, range(0))
    campaign.attempt(evaluate, 1, "done")
    campaign.finish(evaluate, 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_import, "MOST_POINTS", 2 * LINES)
        campaign.track()
    client = MlflowClient(campaign.uri)
    with sqlite3.connect(campaign.uri.removeprefix("sqlite:///")) as database:
        for table in ("metrics", "latest_metrics"):  # another order of adding up
            database.execute(f"UPDATE {table} SET value = value * (1 + 4e-16) WHERE step = 0")
    for run in campaign.mlflow_runs().values():
        client.set_tag(run.info.run_id, "cp2.state", "0123456789abcdef")
        if "cp2.log_size" in run.data.tags:
            client.delete_tag(run.info.run_id, "cp2.log_size")
    (campaign.configuration.reports / "mlflow.json").unlink()
    return campaign


def _points(campaign: Campaign) -> dict[str, dict[str, list[tuple[int, float]]]]:
    return {
        key: {name: campaign.history(key, name) for name in run.data.metrics}
        for key, run in campaign.mlflow_runs().items()
    }


def test_nothing_is_doubled(before: Campaign, pretrain: Run) -> None:
    ids = {key: run.info.run_id for key, run in before.mlflow_runs().items()}
    points = _points(before)
    assert len(points[pretrain.key]["loss"]) == LINES
    assert before.track().created == 0
    assert {key: run.info.run_id for key, run in before.mlflow_runs().items()} == ids
    assert _points(before) == points
    assert before.track().points == before.track(verify=True).points == 0


def test_a_run_goes_on_after_its_last_step_there(before: Campaign, finetune: Run) -> None:
    before.attempt(finetune, 2, "done")
    before.write(finetune, range(LINES + 1, 2 * LINES + 1), attempt=2)
    before.finish(finetune)
    assert before.track().created == 0
    steps = [step for step, _ in before.history(finetune.key, "loss")]
    assert steps[:LINES] == list(range(1, LINES + 1))
    assert LINES / 10 < len(steps[LINES:]) < run_import.MOST_POINTS
    assert steps == sorted(set(steps))
    assert steps[-1] == 2 * LINES


def test_what_was_deleted_stays_deleted_until_its_status_changes(
    before: Campaign, pretrain: Run, finetune: Run
) -> None:
    client = MlflowClient(before.uri)
    for run in (pretrain, finetune):
        client.delete_run(before.mlflow_runs()[run.key].info.run_id)
    assert before.track().created == 0
    before.attempt(finetune, 2, "done")
    before.finish(finetune)
    assert before.track().created == 1
    assert finetune.key in before.children()
    assert pretrain.key not in before.children()

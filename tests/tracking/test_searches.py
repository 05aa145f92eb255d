"""The search strings of docs/mlflow.md find what they should among the demo's runs."""

import re
from pathlib import Path
from typing import Any

import pytest
from imported import Campaign, folders
from mlflow.tracking import MlflowClient

from cp2.settings.load import load_campaign

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and SQLAlchemy's own
PAGE = Path(__file__).parents[2] / "docs" / "mlflow.md"
BLOCKS = re.findall(r"```search\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SEARCHES = [line for block in BLOCKS for line in block.splitlines()]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, migrated: bytes) -> Campaign:
    """Every run of the demo, done."""
    root = tmp_path_factory.mktemp("demo")
    (root / "mlflow.db").write_bytes(migrated)
    campaign = Campaign(load_campaign("demo", folders(root)), f"sqlite:///{root / 'mlflow.db'}")
    for stage in ("pretrain", "finetune", "evaluate"):
        for run in campaign.plan.stage(stage):
            campaign.write(run, range(1 if stage != "evaluate" else 0))
            campaign.attempt(run, 1, "done")
            campaign.finish(run, 0.1 + 0.1 * (run.seed or 0) if stage == "evaluate" else None)
            line = '{"step": 5, "time": 2000.0, "data_wait": 0.5}\n'
            with run.folder(campaign.results).metrics.open("a") as file:
                file.write(line if stage != "evaluate" else "")
    assert campaign.track().finished
    return campaign


def _found(campaign: Campaign, search: str) -> list[Any]:
    client = MlflowClient(campaign.uri)
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], search))


def test_five_questions_with_three_strings_each() -> None:
    assert [len(block.splitlines()) for block in BLOCKS] == [3] * 5


@pytest.mark.parametrize("search", SEARCHES)
def test_a_string_finds_runs_and_not_all(demo: Campaign, search: str) -> None:
    found = _found(demo, search)
    assert 0 < len(found) < len(_found(demo, ""))
    for stage in re.findall(r"tags\.stage = '(\w+)'", search):
        assert {run.data.tags["stage"] for run in found} == {stage}


def test_the_seeds_of_a_cell_and_their_spread(demo: Campaign) -> None:
    seeds = _found(demo, SEARCHES[9])
    cell = next(
        cell
        for table in demo.plan.tables.values()
        for cell in table.cells
        if cell.row == "CP2 200" and "cityscapes" in cell.column
    )
    keys = {run.data.tags["cp2.run_id"] for run in seeds}
    assert set(cell.runs) <= keys
    rows = _found(demo, SEARCHES[11])
    spread = [run.data.metrics["val/demo-cityscapes/miou/std"] for run in rows]
    assert spread == pytest.approx([0.1 / 2**0.5] * len(rows))


def test_the_strings_for_trouble_are_understood(demo: Campaign) -> None:
    text = PAGE.read_text(encoding="utf-8")
    trouble = text[text.index("Trouble:") :]
    strings = re.findall(r"`((?:attributes|tags)\.[^`]+)`", trouble)
    assert len(strings) == 3
    for search in strings:
        assert _found(demo, search) == []

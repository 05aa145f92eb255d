"""Damaged records are named and left out; every other run is imported, and `--watch` goes on."""

from collections.abc import Iterator

import pytest
from imported import Campaign
from mlflow.tracking import MlflowClient

from cp2.plan.graph import Run
from cp2.tracking import watch as watch_file
from cp2.tracking.watch import watch

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and SQLAlchemy's own
DAMAGE = [
    *(("scores.json", content) for content in (
        b"{}", b"[]", b'{"miou": 0.7', b"\xff", b'{"split": "val", "dataset": 3, "miou": 0.5}',
        b'{"split": "val", "dataset": "x", "miou": "0.5"}',
        b'{"split": "val", "dataset": "x", "metrics": [0.5]}',
        b'{"split": "val", "dataset": "x", "metrics": {"miou": 1.5}}',
        b'{"split": "val", "dataset": "x", "miou": 0.5, "per_class": [1]}',
        b'{"split": "val", "dataset": "x", "miou": 0.5, "per_class": {"a": "b"}}')),
    *(("done.json", content) for content in (b"{}", b"[]", b'{"finished": "now"}', b"\xff")),
    *(("recipe.json", content) for content in (
        b"{}", b"[]", b'{"recipe": []}', b'{"recipe": {}, "tags": []}', b"\xff")),
    *(("environment.json", content) for content in (b"[]", b'{"started": "now"}', b"\xff")),
]  # fmt: skip
LINES = [
    b'{"step": 5, "time": 1005.0, "loss": [1]}',
    b'{"step": 5, "l\xff": 1}',
    b"[]",
    b'{"s',
    b'{"step": 5, "time": 1e300, "loss": 1}',
    b'{"step": 99999999999999999999, "time": 1005.0, "loss": 1}',
]


@pytest.fixture
def other(campaign: Campaign, pretrain: Run) -> Run:
    """A whole run beside the damaged one."""
    campaign.write(pretrain, range(1, 3))
    return pretrain


@pytest.mark.parametrize(
    ("name", "content", "already"),
    [(*one, False) for one in DAMAGE]
    + [(name, b"[]", True) for name in ("scores.json", "done.json", "recipe.json")],
)
def test_a_damaged_record_is_named_once(
    campaign: Campaign, evaluate: Run, other: Run, name: str, content: bytes, already: bool
) -> None:
    campaign.write(evaluate, range(0))
    campaign.finish(evaluate, 0.5)
    if already:
        campaign.track()
    path = evaluate.folder(campaign.results).path / name
    path.write_bytes(content)
    campaign.write(other, range(3, 5))
    summary = campaign.track()
    assert [str(path) in problem for problem in summary.problems] == [True]
    assert summary.runs == 1
    assert [step for step, _ in campaign.history(other.key, "loss")] == [1, 2, 3, 4]
    assert (evaluate.key in campaign.children()) == already
    campaign.write(evaluate, range(0))
    campaign.finish(evaluate, 0.75, time=6000.0)
    assert campaign.track().problems == []
    score = f"val/{evaluate.tags['dataset']}/miou"
    assert campaign.mlflow_runs()[evaluate.key].data.metrics[score] == 0.75


def test_damaged_lines_are_passed_over_and_named(campaign: Campaign, other: Run) -> None:
    metrics = other.folder(campaign.results).metrics
    with metrics.open("ab") as file:
        file.write(b"\n".join(LINES) + b"\n")
    campaign.write(other, range(6, 7))
    summary = campaign.track()
    assert summary.problems == [f"{metrics}: {len(LINES)} damaged lines passed over"]
    assert [step for step, _ in campaign.history(other.key, "loss")] == [1, 2, 6]
    assert campaign.track().problems == []


def test_the_live_view_goes_on(
    campaign: Campaign, evaluate: Run, other: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_file.time, "sleep", lambda _: None)
    campaign.write(evaluate, range(0))
    campaign.finish(evaluate, 0.5)
    view: Iterator[str] = watch(campaign.tracker(), 1.0)
    assert "left out" not in next(view)
    evaluate.folder(campaign.results).scores.write_text("[]")
    assert "scores.json: is a list, must be a JSON object" in next(view)
    campaign.write(other, range(3, 5))
    assert "2 new metric values, 1 left out" in next(view)
    assert MlflowClient(campaign.uri).get_experiment_by_name("demo")

"""An import that breaks off at any request to the store loses nothing and doubles nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from imported import Campaign
from mlflow.tracking import MlflowClient

from cp2.plan.graph import Run
from cp2.tracking import run_import

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's and SQLAlchemy's own
REQUESTS = (
    "create_run",
    "log_batch",
    "update_run",
    "set_terminated",
    "delete_run",
    "log_artifacts",
)
STEPS = 1100  # more points than one request takes
BOTH = 12  # requests for a finetuning and its evaluation, with their row
MORE = 4  # for news of a finetuning


@pytest.fixture(autouse=True)
def all_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves are not thinned, so that one takes several requests."""
    monkeypatch.setattr(run_import, "MOST_POINTS", STEPS + 100)


class _Broken(BaseException):
    """The process ends here."""


class _Break:
    """Counts what is sent, and ends the process at one of these.

    Args:
        at: number of the request; None: never.
        after: whether the store does it first.
    """

    def __init__(self, patch: pytest.MonkeyPatch, at: int | None, after: bool = False) -> None:
        self.sent: list[str] = []
        self._at, self._after = at, after
        for name in REQUESTS:
            patch.setattr(MlflowClient, name, self._counted(getattr(MlflowClient, name)))

    def _counted(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            here = len(self.sent) == self._at
            self.sent.append(send.__name__)
            if here and not self._after:
                raise _Broken
            result = send(*args, **kwargs)
            if here:
                raise _Broken
            return result

        return counted


@pytest.fixture
def finetune(campaign: Campaign, evaluate: Run) -> Run:
    return campaign.plan.run("finetune", evaluate.need("finetune") or "")


def _finish_both(campaign: Campaign, evaluate: Run, finetune: Run) -> None:
    campaign.write(finetune, range(1, STEPS + 1))
    campaign.attempt(finetune, 1, "done")
    campaign.finish(finetune)
    campaign.write(evaluate, range(0))
    campaign.finish(evaluate, 0.5)


def _break_off(campaign: Campaign, at: int, after: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _Break(patch, at, after)
        with pytest.raises(_Broken):
            campaign.track()


def _count(campaign: Campaign) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        counter = _Break(patch, None)
        campaign.track()
    return counter.sent


def test_so_many_requests_are_broken_off_below(
    campaign: Campaign, evaluate: Run, finetune: Run
) -> None:
    _finish_both(campaign, evaluate, finetune)
    sent = _count(campaign)
    assert len(sent) == BOTH
    assert {"create_run", "log_batch", "log_artifacts"} < set(sent)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(BOTH))
def test_the_next_import_is_whole(
    campaign: Campaign, evaluate: Run, finetune: Run, at: int, after: bool
) -> None:
    _finish_both(campaign, evaluate, finetune)
    _break_off(campaign, at, after)
    campaign.track()
    runs = campaign.mlflow_runs()
    assert sorted(campaign.children()) == sorted([evaluate.key, finetune.key])
    expected = [(step, 10.0 - step) for step in range(1, STEPS + 1)]
    assert campaign.history(finetune.key, "loss") == expected
    assert runs[finetune.key].data.metrics["loss"] == 10.0 - STEPS
    assert campaign.history(finetune.key, "cost/hours") == [(0, 1.0)]
    for run in (evaluate, finetune):
        score = f"val/{evaluate.tags['dataset']}/miou"
        assert campaign.history(run.key, score) == [(0, 0.5)]
        data = runs[run.key].data
        assert runs[run.key].info.status == "FINISHED"
        assert data.tags["stage"] == run.stage
        assert data.tags["mlflow.parentRunId"]
        assert data.params["dataset"]
    again = campaign.track(verify=True)
    assert (again.created, again.points) == (0, 0)


def _news(campaign: Campaign, finetune: Run) -> None:
    """Steps of an attempt that is killed before it saves them."""
    campaign.write(finetune, range(1, 11))
    campaign.attempt(finetune, 1, None)
    campaign.track()
    campaign.write(finetune, range(11, STEPS + 11))
    campaign.attempt(finetune, 2, None)


def test_so_many_requests_are_broken_off_of_news(campaign: Campaign, finetune: Run) -> None:
    _news(campaign, finetune)
    assert len(_count(campaign)) == MORE


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(MORE))
def test_steps_made_again_after_the_break_are_not_doubled(
    campaign: Campaign, finetune: Run, at: int, after: bool
) -> None:
    """The broken import may have sent them; MLflow keeps what it has."""
    _news(campaign, finetune)
    _break_off(campaign, at, after)
    metrics = finetune.folder(campaign.results).metrics
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:100]))
    campaign.attempt(finetune, 3, "saved")
    campaign.write(finetune, range(101, STEPS + 51), begin=9000.0, attempt=3)
    campaign.track()
    steps = [step for step, _ in campaign.history(finetune.key, "loss")]
    assert steps == list(range(1, STEPS + 51))
    assert campaign.track(verify=True).points == 0

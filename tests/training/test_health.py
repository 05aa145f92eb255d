"""Health of a training against slow loops, in all methods, and where it is said."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from noise import relative
from torch.nn import functional as F

from cp2.methods.health import health
from cp2.plan.graph import Plan, Run
from cp2.plan.progress.listing import status_json, status_listing
from cp2.plan.progress.status import campaign_status
from cp2.plan.recipes import PretrainRecipe
from cp2.record.metrics import collapse, read_metrics
from cp2.settings.load import Configuration
from cp2.training.clock import Deadline
from cp2.training.pretrain import build, pretrain


def unit(*shape: int, dim: int = 1) -> torch.Tensor:
    return F.normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))), dim=dim
    )


def test_figures_are_those_of_slow_loops() -> None:
    q, k, queue = unit(7, 5), unit(7, 6)[:, :5], unit(5, 40, dim=0)
    found = {name: value.item() for name, value in health(q, k, queue, 0.2).items()}
    deviations = []
    for column in q.T.tolist():
        mean = sum(column) / 7
        deviations.append(math.sqrt(sum((x - mean) ** 2 for x in column) / 6))
    assert found["health/deviation"] == pytest.approx(sum(deviations) / 5 * math.sqrt(5), rel=1e-5)
    pairs = [math.dist(a, b) ** 2 for a, b in zip(q.tolist(), k.tolist(), strict=True)]
    assert found["health/alignment"] == pytest.approx(sum(pairs) / 7, rel=1e-5)
    others = [math.exp(-2 * math.dist(a, b) ** 2) for a, b in itertools.combinations(q.tolist(), 2)]
    assert found["health/uniformity"] == pytest.approx(math.log(sum(others) / 21), rel=1e-5)
    dead = 0
    for n in range(40):
        shares = []
        for one in q:
            weights = [math.exp(float(one @ queue[:, m]) / 0.2) for m in range(40)]
            shares.append(weights[n] / sum(weights))
        dead += max(shares) < 0.1 / 40
    assert found["health/dead_keys"] == pytest.approx(dead / 40)


def test_spread_vectors_are_healthy_and_equal_ones_are_not() -> None:
    spread = health(unit(4000, 64), unit(4000, 64), None, 0.2)
    assert spread["health/deviation"].item() == pytest.approx(1, abs=0.02)
    assert "health/dead_keys" not in spread
    same = unit(1, 64).expand(9, 64)
    queue = torch.cat([same[:1].T.expand(64, 5), -same[:1].T.expand(64, 5)], 1)
    equal = health(same, same, queue, 0.2)
    assert equal["health/deviation"].item() == pytest.approx(0, abs=1e-6)
    assert equal["health/alignment"].item() == 0
    assert equal["health/dead_keys"].item() == 0.5


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_dead_keys_are_those_of_the_methods_own_temperature(
    tiny: tuple[Configuration, Plan], find: Callable[[str], Run], temperature: float
) -> None:
    changes = {"temperature": temperature, "dim": 6, "queue_size": 60}
    run = relative(tiny[0], find("moco-v2"), "moco-v2-plus", **changes)
    assert isinstance(run.recipe, PretrainRecipe)
    torch.manual_seed(0)
    method, _ = build(run.recipe, tiny[0].results)
    queue = method.negatives
    assert queue is not None
    assert queue.shape == (6, 60)
    q, k = unit(8, 6), unit(9, 6)[:8]
    method.see(q, k)
    dead = 0
    for n in range(60):
        shares = []
        for one in q:
            weights = [math.exp(float(one @ queue[:, m]) / temperature) for m in range(60)]
            shares.append(weights[n] / sum(weights))
        dead += max(shares) < 0.1 / 60
    assert (dead > 0) == (temperature < 0.1)
    assert method.health()["health/dead_keys"].item() == pytest.approx(dead / 60)
    assert method.health() == {}  # nothing is seen twice


NAMES = ["deviation", "alignment", "uniformity", "dead_keys"]


@pytest.mark.parametrize("method", ["moco-v2", "cp2", "densecl", "pixcon-sr"])
def test_every_method_logs_it_and_learns_the_same(
    tiny: tuple[Configuration, Plan], find: Callable[[str], Run], method: str
) -> None:
    configuration, run = tiny[0], find(method if method == "cp2" else "moco-v2")
    if method not in ("cp2", "moco-v2"):
        run = relative(configuration, run, method)
    execution, weights = configuration.campaign.execution, []
    for every in (2, 1):
        often = execution.model_copy(update={"log_every": every})
        pretrain(run, configuration.results, often, Deadline())
        folder = run.folder(configuration.results)
        lines = read_metrics(folder.metrics)
        assert all(math.isfinite(line[f"health/{name}"]) for line in lines for name in NAMES)
        assert all(line["gradient_norm"] > 0 for line in lines)
        weights.append(folder.model.read_bytes())
        for file in (folder.model, folder.done, folder.metrics):
            file.unlink()
    assert weights[0] == weights[1]


def test_a_collapse_is_said_in_log_status_and_record(
    tiny: tuple[Configuration, Plan],
    find: Callable[[str], Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (configuration, plan), run = tiny, find("moco-v2")
    execution, folder = configuration.campaign.execution, run.folder(configuration.results)
    monkeypatch.setattr("cp2.record.metrics.COLLAPSED", 1e9)
    pretrain(run, configuration.results, execution.model_copy(update={"log_every": 1}), Deadline())
    log = folder.log.read_text(encoding="utf-8")
    assert log.count("features collapse: deviation") == 1
    assert "features collapse" in folder.done.read_text(encoding="utf-8")
    said = f"warnings\n  {run.key}, done\n    features collapse: deviation"
    status = campaign_status(plan, configuration.results)
    assert said in status_listing(status, 100)
    assert status_json(status)["warnings"][run.key].startswith("features collapse")
    folder.done.unlink()
    with folder.locked():
        text = status_listing(campaign_status(plan, configuration.results), 100)
    assert "    features collapse: deviation" in text
    assert "warnings" not in text


@pytest.mark.parametrize(
    ("value", "said"), [(0.1, False), (0.09, True), (0, True), (None, False), ("x", False)]
)
def test_only_a_low_number_is_a_collapse(value: object, said: bool) -> None:
    assert bool(collapse({"health/deviation": value})) is said
    assert not collapse({})

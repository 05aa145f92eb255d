"""Curves hold what was logged, of the runs that were asked for."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from fake_runs import Make, write_losses

from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.places import Places
from cp2.reporting.figures.curves import choose_runs, curves, labels_of, probes
from cp2.settings.load import load_campaign


@pytest.mark.parametrize(
    ("conditions", "count"),
    [
        ([], 1 + 3 * (2 + 1)),  # a pretraining; 3 rows with 2 seeds of voc2012, 1 of ade20k
        (["stage=pretrain"], 1),
        (["stage=finetune", "dataset=ade20k"], 3),
        (["dataset=ade20k,voc*", "seed=1"], 3),
        (["method=cp2"], 4),
    ],
)
def test_conditions_choose_runs(make: Make, conditions: list[str], count: int) -> None:
    _, plan = make("paper")
    runs = choose_runs(Places(plan), conditions)
    assert len(runs) == len({run.key for run in runs}) == count


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("metod=cp2", r"no key 'metod'; did you mean 'method'"),
        ("cp2", r"'cp2': write key=value; keys: stage, id"),
        ("dataset=voc", r"dataset is one of: ade20k, imagenet, voc2012"),
    ],
)
def test_conditions_that_choose_nothing(make: Make, condition: str, message: str) -> None:
    _, plan = make("paper")
    with pytest.raises(UserError, match=message):
        choose_runs(Places(plan), ["stage=pretrain,finetune", condition])


def test_a_panel_a_metric_and_seeds_have_one_label(make: Make, tmp_path: Path) -> None:
    configuration, plan = make("paper")
    runs = choose_runs(Places(plan), ["stage=finetune", "dataset=voc2012"])
    for run in runs:
        write_losses(run, configuration.results)
    figure = curves(runs, Places(plan), configuration.results, ["loss*"], tmp_path, "c")
    assert figure.svg is not None
    words = re.findall(r"<text[^>]*>([^<]*)</text>", figure.svg.read_text(encoding="utf-8"))
    assert {"loss", "loss_instance", "loss_dense"} <= set(words)
    # Rows, not 6 runs.
    assert [words.count(row) for row in ("random init", "supervised", "CP2 200")] == [1, 1, 1]
    assert "6 runs" in figure.caption


def test_probes_of_snapshots_are_a_panel_a_protocol(make: Make, tmp_path: Path) -> None:
    configuration, plan = make("paper")
    assert probes(plan, Places(plan), configuration.results, tmp_path) is None
    (run,) = plan.stage("pretrain")
    file = run.folder(configuration.results).probes
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        '{"step": 3, "time": 5, "probe/voc/knn_miou": 0.1, "probe/voc/knn_accuracy": 0.5}\n'
        '{"step": 6, "time": 6, "probe/voc/knn_miou": 0.2, "probe/faces/knn_accuracy": 0.5}\n'
    )
    figure = probes(plan, Places(plan), configuration.results, tmp_path)
    assert figure is not None
    assert figure.svg is not None
    words = re.findall(r"<text[^>]*>([^<]*)</text>", figure.svg.read_text(encoding="utf-8"))
    assert "voc/knn_miou" in words
    assert [word for word in words if "accuracy" in word] == ["faces/knn_accuracy"]


@pytest.fixture(scope="module")
def demo() -> Places:
    return Places(build_plan(load_campaign("demo_full")))


@pytest.mark.parametrize("stage", ["pretrain", "finetune", "pretrain,finetune"])
def test_labels_tell_recipes_apart_and_not_seeds(demo: Places, stage: str) -> None:
    runs = choose_runs(demo, [f"stage={stage}"])
    by_label: dict[str, set[str]] = {}
    for key, label in labels_of(runs, demo).items():
        run = demo.plan.runs[key]
        origin = demo.pretraining_of(run)
        recipes = [str(one.recipe) for one in (run, *([origin] if origin else []))]
        by_label.setdefault(label, set()).add(re.sub(r"pretrain/[^'\"]*", "pretrain", str(recipes)))
    assert len(by_label) > 3
    assert [label for label, recipes in by_label.items() if len(recipes) > 1] == []
    assert any(label.startswith("CP2 200") for label in by_label)


def test_finetunings_are_chosen_by_their_rows_and_pretrainings(demo: Places) -> None:
    """By the tags that MLflow shows of them."""
    for condition in ("row=CP2 200", "variant=mask*", "method=moco-v2"):
        runs = choose_runs(demo, ["stage=finetune", condition])
        key, _, wanted = condition.partition("=")
        for run in runs:
            origin = demo.pretraining_of(run)
            assert origin is not None
            if key != "row":
                assert fnmatchcase(demo.tags(run)[key], wanted)
                assert demo.tags(run)[key] == origin.tags[key]
            else:
                assert wanted in demo.tags(run)["rows"].split(", ")


def test_what_cannot_be_drawn_says_so(make: Make, tmp_path: Path) -> None:
    configuration, plan = make("paper")
    runs = choose_runs(Places(plan), ["stage=pretrain"])
    with pytest.raises(UserError, match="none of the 1 chosen runs has logged anything"):
        curves(runs, Places(plan), configuration.results, [], tmp_path, "c")
    write_losses(runs[0], configuration.results)
    with pytest.raises(UserError, match="--metric lss: not logged; there is: loss, loss_instance"):
        curves(runs, Places(plan), configuration.results, ["lss"], tmp_path, "c")

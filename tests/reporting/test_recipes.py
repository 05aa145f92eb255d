"""What provenance says of settings: against the row above, and against the paper's."""

from fake_runs import Make

from cp2.plan.build import build_plan
from cp2.reporting.recipes import (
    NONE,
    Difference,
    cell_settings,
    differences,
    published_settings,
    recipe_text,
)
from cp2.settings.load import load_campaign


def test_differences_are_of_keys_on_either_side() -> None:
    there, here = {"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "4", "d": "5"}
    assert differences(there, here) == [
        Difference("c", "3", "4"),
        Difference("d", NONE, "5"),
        Difference("a", "1", NONE),
    ]
    assert differences(here, here) == []


def test_a_stage_of_one_side_is_one_line() -> None:
    there = {"pretrain.lr": "1", "finetune.lr": "2"}
    here = {"earlier pretrain.lr": "1", "earlier pretrain.epochs": "9"} | there
    (added,) = differences(there, here)
    assert (added.key, added.there, added.here) == ("earlier pretrain", NONE, "2 settings")
    assert [one.key for one in added.inside] == ["earlier pretrain.lr", "earlier pretrain.epochs"]
    (removed,) = differences(here, there)
    assert (removed.there, removed.here) == ("2 settings", NONE)


def test_quick_tuning_is_held_against_the_last_pretraining() -> None:
    plan = build_plan(load_campaign("demo"))
    rows = {c.row: c for c in plan.tables["cp2_fcn"].cells if c.column == "voc2012 mIoU"}
    plain, tuned = (cell_settings(plan, rows[r].runs) for r in ("CP2 200", "CP2 QT r.200"))
    assert tuned["pretrain.method.name"] == plain["pretrain.method.name"] == "cp2"
    found = differences(plain, tuned)
    assert len(found) < 20
    assert sum(bool(one.inside) for one in found) == 1


def test_seeds_are_no_difference(make: Make) -> None:
    _, plan = make("paper")
    first, second = plan.tables["cp2_fcn"].cells[4].runs
    settings = cell_settings(plan, (first,))
    assert differences(settings, cell_settings(plan, (second,))) == []
    assert settings["pretrain.method.name"] == "cp2"
    assert {key.partition(".")[0] for key in settings} == {"pretrain", "finetune", "evaluate"}


def test_the_papers_setting_is_that_without_the_campaigns_changes(make: Make) -> None:
    configuration, plan = make("paper")
    paper = published_settings(configuration)
    for cell in plan.tables["cp2_fcn"].cells:
        if cell.runs:
            key = ("cp2_fcn", cell.row, cell.column)
            assert differences(paper[key], cell_settings(plan, cell.runs)) == []
    # A row whose checkpoint cannot be had here has its published setting all the same.
    assert ("cp2_fcn", "MoCo v2 v.300", "voc2012 mIoU") in paper


def test_changes_of_a_campaign_are_found() -> None:
    configuration = load_campaign("demo", ["methods.cp2.queue_size=256"])
    plan = build_plan(configuration)
    paper = published_settings(configuration)
    cell = next(c for c in plan.tables["cp2_fcn"].cells if c.row == "CP2 200")
    changed = differences(paper["cp2_fcn", "CP2 200", cell.column], cell_settings(plan, cell.runs))
    found = {one.key: (one.there, one.here) for one in changed}
    assert found["pretrain.method.queue_size"] == ("65536", "256")
    assert found["pretrain.epochs"] == ("200", "3")
    assert found["pretrain.dataset"] == ("imagenet", "demo-imagenet")


def test_tables_of_own_data_have_no_published_setting() -> None:
    assert published_settings(load_campaign("mini")) == {}


def test_a_recipe_is_yaml(make: Make) -> None:
    _, plan = make("paper")
    assert "queue_size: 65536" in recipe_text(next(iter(plan.stage("pretrain"))))

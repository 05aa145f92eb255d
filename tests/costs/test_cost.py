"""Costs against sums by hand."""

import json
import re

import pytest
from campaigns import CONFIGS
from costing import EVALUATE, FINETUNE, PRETRAIN, configuration, costs, finish, log_steps

from cp2.costs.cost import cost_campaign, schedule
from cp2.costs.listing import cost_listing
from cp2.costs.work import work_of
from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.settings.load import load_campaign

RATES = (1000.0, 500.0, 100.0, 10.0)
# MoCo v2 200 epochs; CP² 200; CP² Quick Tuning 20 on top; 4 rows x 2 columns x 2 seeds
HOURS = {
    "pretrain": (200 * PRETRAIN / 1000 + 220 * PRETRAIN / 500) / 3600,
    "finetune": 16 * FINETUNE / 100 / 3600,
    "evaluate": 16 * EVALUATE / 10 / 3600,
}


def _keys(found, stage):
    return [run.key for run in found.plan.stage(stage)]


def test_hours_are_samples_over_rate(tmp_path):
    found = costs(tmp_path, RATES)
    for stage, expected in HOURS.items():
        assert found.total(_keys(found, stage)) == pytest.approx(expected)
    assert found.total() == found.left() == pytest.approx(sum(HOURS.values()))
    assert not found.unknown()


def test_sharing_saves_hours(tmp_path):
    """Each cell alone: its pretraining again, and its own two finetunings and evaluations."""
    found = costs(tmp_path, RATES)
    moco, cp2, tuning = 200 * PRETRAIN / 1000, 200 * PRETRAIN / 500, 20 * PRETRAIN / 500
    cells = 2 * (moco + cp2 + (moco + tuning))
    alone = cells / 3600 + HOURS["finetune"] + HOURS["evaluate"]
    assert found.unshared == pytest.approx(alone)
    assert found.unshared > found.total()


def test_done_runs_cost_nothing_more_and_part_done_ones_their_rest(tmp_path):
    results = tmp_path / "results"
    before = costs(tmp_path, RATES)
    runs = before.plan.runs.values()
    done = next(run for run in runs if run.stage == "finetune")
    begun = next(run for run in runs if run.stage == "pretrain" and run.tags["method"] == "cp2")
    finish(done, results)
    log_steps(begun, results, {"step": 100}, {"step": 6100})  # of 200 * 122
    after = costs(tmp_path, RATES)
    saved = FINETUNE / 100 / 3600 + 0.25 * 200 * PRETRAIN / 500 / 3600
    assert after.left() == pytest.approx(before.left() - saved)
    assert after.total() == pytest.approx(before.total())
    assert after.jobs(done.key) == 0


def test_a_run_past_its_last_step_that_is_not_done_still_counts(tmp_path):
    found = costs(tmp_path, RATES)
    run = next(found.plan.stage("finetune"))
    log_steps(run, tmp_path / "results", {"step": 8000})
    again = costs(tmp_path, RATES)
    assert 0 < again.runs[run.key].left < 0.01 * found.runs[run.key].left
    assert again.jobs(run.key) == 1


def test_the_size_of_a_prepared_data_set_counts_instead_of_the_published_one(tmp_path):
    settings = configuration(tmp_path)
    plan = build_plan(settings)
    run = next(plan.stage("evaluate"))
    assert work_of(run, plan, settings.results).samples == EVALUATE
    dataset = plan.runs["dataset/voc2012-train"].outputs(settings.results)["done"]
    dataset.parent.mkdir(parents=True)
    dataset.write_text(json.dumps({"splits": {"train": {"images": 256}, "val": {"images": 7}}}))
    assert work_of(run, plan, settings.results).samples == 7
    pretrain = next(plan.stage("pretrain"))
    assert work_of(pretrain, plan, settings.results).steps == 2 * pretrain.recipe.epochs
    dataset.write_text('{"splits": {"val')
    assert work_of(run, plan, settings.results).samples == EVALUATE


def test_work_of_every_campaign_is_known_before_anything_runs(tmp_path):
    for campaign in ("demo", "mini", "paper"):
        plan = build_plan(load_campaign(campaign, (), CONFIGS))
        works = [work_of(run, plan, tmp_path) for run in plan.runs.values()]
        assert all(work.samples for work in works if work)
        assert sum(work is not None for work in works) > len(works) / 2


def test_an_unknown_kind_of_work_has_no_cost_instead_of_none(tmp_path):
    found = costs(tmp_path, (1000.0, 0, 100.0, 10.0))
    unknown = found.unknown()
    assert {found.plan.runs[key].tags["method"] for key in unknown} == {"cp2", "cp2-qt"}
    assert found.total(unknown) == 0
    text = cost_listing(found, tmp_path / "results")
    assert "cost unknown: 2 runs, no row for pretrain cp2 resnet18 aspp-small 96x96" in text
    assert "and 2 runs of unknown cost" in text


def test_a_stage_without_any_row_is_unknown_not_zero(tmp_path):
    text = cost_listing(costs(tmp_path, (1000.0, 500.0, 0, 10.0)), tmp_path / "results")
    (line,) = [line for line in text.splitlines() if line.startswith("finetune")]
    assert " ".join(line.split()) == (
        "finetune 16 0 16 unknown unknown and 16 runs of unknown cost"
    )


def test_windows_are_not_costed_as_whole_images(tmp_path):
    change = (
        "protocols.small.datasets.labelled.inference="
        "{mode: slide, window: [192, 192], stride: [128, 128]}"
    )
    found = costs(tmp_path, RATES, change)
    assert set(found.unknown()) == set(_keys(found, "evaluate"))
    assert "192x768 in windows" in cost_listing(found, tmp_path / "results")


def test_jobs_are_counted_by_the_time_limit_and_gpus(tmp_path):
    rates = (10.0, 10.0, 100.0, 10.0)
    limit = "campaign.resources={pretrain: {minutes: 600, gpus: 2}}"
    found = costs(tmp_path, rates, limit)
    run = next(run for run in found.plan.stage("pretrain") if run.recipe.epochs == 200)
    hours = 200 * PRETRAIN / 10 / 3600
    assert found.runs[run.key].hours == pytest.approx(hours)
    assert found.jobs(run.key) == -(-hours // 20)  # two GPUs do 20 GPU-hours in 10 hours


def test_wall_clock_of_one_device_is_the_sum_and_of_many_the_longest_chain(tmp_path):
    found = costs(tmp_path, RATES)
    one, many = schedule(found, 1), schedule(found, 1000)
    assert one.hours == pytest.approx(found.left())
    chain = 200 * PRETRAIN / 500 + FINETUNE / 100 + EVALUATE / 10
    assert [one.chain, many.chain, many.hours] == pytest.approx(3 * [chain / 3600])
    assert many.last.startswith("evaluate/")
    hours = [schedule(found, n).hours for n in (1, 2, 3, 4)]
    for n, value in enumerate(hours, start=1):
        assert value >= max(found.left() / n, many.chain) - 1e-9
        assert value <= found.left() / n + many.chain + 1e-9  # Graham's bound


def test_wall_clock_with_runs_of_several_gpus(tmp_path):
    wide = "campaign.resources={finetune: {gpus: 4}}"
    found = costs(tmp_path, RATES, wide)
    assert schedule(found, 4).hours <= schedule(costs(tmp_path, RATES), 1).hours
    assert schedule(found, 2).hours >= found.left() / 2 - 1e-9  # 4 are asked for, 2 are there


def test_nothing_left_has_no_wall_clock(tmp_path):
    found = costs(tmp_path, RATES)
    for run in found.plan.runs.values():
        finish(run, tmp_path / "results")
    again = costs(tmp_path, RATES)
    assert schedule(again, 1) is None
    text = cost_listing(again, tmp_path / "results")
    assert "wall-clock" not in text
    assert "samples/s" not in text


@pytest.mark.parametrize("campaign", ["mini", "paper"])
def test_listing_says_how_sure_it_is(campaign, tmp_path):
    place = f"campaign.execution.results={tmp_path}"
    settings = load_campaign(campaign, [place], CONFIGS)
    found = cost_campaign(settings, build_plan(settings))
    text = cost_listing(found, tmp_path, devices=8)
    assert text.startswith("cost on A100, by ")
    assert "published.yaml" in text
    assert "estimated" in text
    assert "Nothing here was measured on a GPU by this project" in text.replace("\n", " ")
    assert "also in the table: CPU core, V100" in text
    assert "wall-clock on 8 of these devices" in text


def test_the_run_of_most_jobs_is_named(tmp_path):
    found = costs(tmp_path, RATES, "campaign.resources.pretrain.minutes=7")
    key, count = max(((key, found.jobs(key)) for key in found.runs), key=lambda pair: pair[1])
    assert count > 1
    assert key.startswith("pretrain/")
    line = f"most jobs: {key} takes {count} jobs of 7 min each, in a row"
    assert line in cost_listing(found, tmp_path / "results")
    for run in found.plan.runs.values():
        finish(run, tmp_path / "results")
    assert "most jobs" not in cost_listing(costs(tmp_path, RATES), tmp_path / "results")


def test_a_site_changes_jobs_and_is_named_when_it_is_wrong(tmp_path):
    file = tmp_path / "here.yaml"
    file.write_text("pretrain: {minutes: 10, gpus: 1}")
    found = costs(tmp_path, RATES, site=str(file))
    assert found.requests["pretrain"].minutes == 10
    with pytest.raises(UserError, match="site 'nowhere'"):
        costs(tmp_path, RATES, site="nowhere")


def test_the_costs_in_the_documentation_are_those_of_the_campaigns():
    text = (CONFIGS.parent / "docs" / "costs.md").read_text(encoding="utf-8")
    stated = re.findall(r"^\| `(paper\w*)` \| ([\d,]+) \| (\d+) days \|$", text, re.MULTILINE)
    assert len(stated) == len(list(CONFIGS.glob("paper*.yaml")))
    for campaign, hours, days in stated:
        settings = load_campaign(campaign, (), CONFIGS)
        found = cost_campaign(settings, build_plan(settings), device="V100")
        assert not found.unknown()
        assert found.total() == pytest.approx(float(hours.replace(",", "")), rel=0.05), campaign
        assert schedule(found, 8).hours / 24 == pytest.approx(int(days), rel=0.1), campaign

"""Columns, their protocols and their metrics."""

from typing import Literal

import pytest

from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.graph import make_run
from cp2.plan.protocols import metric_of, protocol_of
from cp2.plan.recipes import EvaluateRecipe
from cp2.settings.load import load_campaign
from cp2.settings.metrics import SECONDS_PER_EPOCH, Metric

CELL = "{name: a, dataset: voc2012}"
TIME = "{name: t, dataset: voc2012, metric: seconds_per_epoch}"


def planned(tmp_path, *columns, row="CP2 200", head="fcn"):
    file = tmp_path / "c.yaml"
    table = f"{{head: {head}, columns: [{', '.join(columns)}]}}"
    change = f"overrides: {{tables: {{cp2_fcn: {table}}}}}"
    rows = f"select: {{cp2_fcn: {{rows: [{row}]}}}}"
    file.write_text(f"title: T\nscale: paper\ntables: [cp2_fcn]\n{change}\n{rows}\n")
    configuration = load_campaign(str(file))
    build_plan(configuration)
    table = configuration.table("cp2_fcn")
    return [
        (protocol_of(configuration, table, c).name, metric_of(configuration, table, c))
        for c in table.columns
    ]


def test_a_column_shows_its_protocols_first_metric_or_the_one_it_names(tmp_path):
    other = "{name: b, dataset: voc2012, protocol: densecl, metric: accuracy}"
    (one, first), (two, second) = planned(tmp_path, CELL, other)
    assert (one, first.name, first.title, first.unit) == ("cp2", "miou", "mIoU", "percent")
    assert (two, second.name) == ("densecl", "accuracy")
    assert planned(tmp_path, TIME) == [("cp2", SECONDS_PER_EPOCH)]


def test_a_metric_that_nothing_measures_yet_needs_a_reason(tmp_path):
    column = "name: d, dataset: nowhere, metric: average_precision"
    message = (
        r"table 'cp2_fcn', column 'd': protocol 'cp2' \(kind segmentation\) does not measure "
        r"'average_precision'; allowed: accuracy, mean_accuracy, miou, seconds_per_epoch; or name "
        "another protocol, or write missing: <why>"
    )
    with pytest.raises(UserError, match=message):
        planned(tmp_path, f"{{{column}}}")
    ((_, metric),) = planned(tmp_path, f"{{{column}, missing: not built}}")
    assert metric == Metric("average_precision", "average_precision", "percent")


def test_a_misspelt_metric_is_told_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"does not measure 'mIoU'; did you mean 'miou'\?"):
        planned(tmp_path, "{name: a, dataset: voc2012, metric: mIoU}")
    with pytest.raises(UserError, match=r"no protocol 'densecll'.*did you mean 'densecl'\?"):
        planned(tmp_path, "{name: a, dataset: voc2012, protocol: densecll}")


def test_times_and_scores_share_no_table(tmp_path):
    message = "column 'a' is in percent, column 't' in seconds; one of them needs a table of its"
    with pytest.raises(UserError, match=message):
        planned(tmp_path, CELL, TIME)


def test_a_table_without_a_head_is_told_who_needs_one(tmp_path):
    needed = r"table 'cp2_fcn', column 'a': protocol 'cp2' .* trains a head, but neither the table"
    with pytest.raises(UserError, match=needed):
        planned(tmp_path, CELL, row="random init", head="null")
    assert planned(tmp_path, CELL[:-1] + ", head: fcn}", row="random init", head="null")
    with pytest.raises(UserError, match="method 'cp2' pretrains a segmentation head, but is given"):
        planned(tmp_path, CELL[:-1] + ", head: fcn}", head="null")


def test_the_kind_of_a_protocol_counts_in_run_ids():
    class Vote(EvaluateRecipe):
        metrics = (Metric("votes", "votes", "percent"),)
        protocol: Literal["vote"] = "vote"

    class Probe(EvaluateRecipe):
        metrics = (Metric("hits", "hits", "percent"),)
        protocol: Literal["probe"] = "probe"

    one, two = (
        make_run("evaluate", "x", kind(dataset="x", split="val"), [], {}) for kind in (Vote, Probe)
    )
    assert one.key != two.key


DETECTION = "protocol: coco-detection, name: d, dataset: coco2017-instances"
SCHEDULE = "protocols.coco-detection.datasets.coco2017-instances"


def detector(plan_of, metric, *changes):
    table = f"{{head: fcn, columns: [{{{DETECTION}, metric: {metric}}}]}}"
    text = "title: T\nscale: paper\ntables: [cp2_fcn]\nselect: {cp2_fcn: {rows: [random init]}}\n"
    text += f"overrides: {{tables: {{cp2_fcn: {table}}}}}\n"
    return plan_of(text, *(f"{SCHEDULE}.{change}" for change in changes))


def test_a_mask_rcnn_is_planned_as_released(plan_of):
    plan = detector(plan_of, "mask_ap75")
    (run,) = plan.stage("finetune")
    training, model = run.recipe.training, run.recipe.detector
    assert (model.kind, model.masks, run.recipe.classes) == ("fpn", True, 80)
    assert (training.short_sides, training.long_side) == ((640, 672, 704, 736, 768, 800), 1333)
    assert (training.batch_size, training.iterations, training.lr) == (16, 90_000, 0.02)
    drops = [round(share * training.iterations) for share in training.step.milestones]
    assert (drops, training.step.warmup_iterations) == ([60_000, 80_000], 1000)


@pytest.mark.parametrize(
    ("metric", "changes", "message"),
    [
        ("mask_ap", ["detector.masks=false"], "a detector without masks has no mask_ap; it has ap"),
        ("ap_small", ["score=voc2007", "detector.masks=false"], "score voc2007 .* has no ap_small"),
        ("ap", ["score=voc2007"], "score voc2007 knows no masks; write score: coco"),
        ("ap", ["detector={kind: c4, masks: true}"], "masks are of kind fpn"),
    ],
)
def test_what_a_detector_cannot_do_is_refused_by_the_plan(plan_of, metric, changes, message):
    with pytest.raises(UserError, match=message):
        detector(plan_of, metric, *changes)


def test_masks_need_a_data_set_with_masks(plan_of):
    text = "title: T\nscale: paper\ntables: [cp2_fcn]\nselect: {cp2_fcn: {rows: [random init]}}\n"
    text += "substitute: {coco2017-instances: voc2007}\noverrides: {tables: {cp2_fcn: "
    text += f"{{head: fcn, columns: [{{{DETECTION}}}]}}}}}}\n"
    with pytest.raises(UserError, match=r"'voc2007' \(kind voc2007\) has boxes but no masks"):
        plan_of(text)

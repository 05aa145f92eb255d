"""DenseCL's and PixCon's tables: each number has its cell, and what cannot be made says so."""

import csv
from itertools import pairwise
from pathlib import Path

import pytest

from cp2.errors import UserError
from cp2.plan.protocols.segmentation import SegmentationEvaluateRecipe, SegmentationFinetuneRecipe
from cp2.plan.recipes import PretrainRecipe

PUBLISHED = Path(__file__).parents[2] / "reports" / "published"
STEMS = sorted(p.stem for p in PUBLISHED.glob("*.csv") if p.stem.startswith(("densecl", "pixcon")))
RELATIVES = f"title: Relatives\nscale: paper\ntables: [{', '.join(STEMS)}]\n"
MADE_HERE = {"voc2012 mIoU", "cityscapes mIoU", "voc seg mIoU", "ade20k mIoU"}
MADE_HERE |= {"COCO time/epoch", "ImageNet time/epoch", "voc2007 SVM cls mAP"}
MADE_HERE |= {"voc det AP", "voc det AP50", "voc det AP75"}
MADE_HERE |= {f"coco {kind}{overlap}" for kind in ("APbb", "APmk") for overlap in ("", "50", "75")}
QUOTED = ("ORL", "Odin", "UniVIP")


@pytest.fixture
def plan(plan_of):
    return plan_of(RELATIVES)


def cell(plan, table, row, column):
    (found,) = [c for c in plan.tables[table].cells if (c.row, c.column) == (row, column)]
    return found


def before(plan, cell, kind):
    runs = plan.ancestors(list(cell.runs))
    return [run.recipe for run in runs if isinstance(run.recipe, kind)]


def test_there_are_tables_of_all_of_both_papers():
    assert len(STEMS) == 9 + 7


@pytest.mark.parametrize("stem", STEMS)
def test_each_published_number_has_a_cell(stem, plan):
    with (PUBLISHED / f"{stem}.csv").open(encoding="utf-8") as file:
        published = {(line["row"], line["column"]) for line in csv.DictReader(file)}
    cells = {(c.row, c.column): c for c in plan.tables[stem].cells}
    assert published <= cells.keys()
    for row, column in published:
        found = cells[row, column]
        quoted = row.startswith(QUOTED) or row == "MoCo-v2 IN*"
        assert bool(found.runs) == (column in MADE_HERE and not quoted), (row, column)
        assert bool(found.runs) != bool(found.missing)
        if found.missing:
            assert found.missing.startswith(
                ("not available yet: ", "orl_r50_coco_800ep.pth has no")
            )


def test_the_default_of_densecl_is_one_set_of_runs_everywhere(plan):
    runs = cell(plan, "densecl_voc_seg", "DenseCL CC", "voc2012 mIoU").runs
    for table, row in (
        ("densecl_lambda", "lambda=0.5"),
        ("densecl_matching", "max-sim F"),
        ("densecl_grid", "S=7"),
        ("densecl_schedule", "800 epochs"),
    ):
        assert cell(plan, table, row, "voc2012 mIoU").runs == runs
    moco = cell(plan, "densecl_voc_seg", "MoCo-v2 CC", "voc2012 mIoU").runs
    assert cell(plan, "densecl_lambda", "lambda=0.0", "voc2012 mIoU").runs == moco


def test_rates_of_densecl_follow_the_data(plan):
    for row, lr, dataset, epochs in (
        ("MoCo-v2 CC", 0.3, "coco2017", 800),
        ("DenseCL CC", 0.3, "coco2017", 800),
        ("DenseCL IN", 0.03, "imagenet", 200),
    ):
        (recipe,) = before(plan, cell(plan, "densecl_voc_seg", row, "voc2012 mIoU"), PretrainRecipe)
        assert recipe.method.optimizer["resnet"].lr == lr
        assert (recipe.dataset, recipe.epochs) == (dataset, epochs)
        assert recipe.backbone.output_stride == 32


def test_ablations_change_one_setting(plan):
    def method(table, row):
        (recipe,) = before(plan, cell(plan, table, row, "voc2012 mIoU"), PretrainRecipe)
        return recipe.method

    usual = method("densecl_matching", "max-sim F")
    for value in (0.1, 0.3, 0.7, 0.9):
        expected = usual.model_copy(update={"loss_lambda": value})
        assert method("densecl_lambda", f"lambda={value}") == expected
    last = usual.model_copy(update={"loss_lambda": 1.0, "lambda_warmup_steps": 10_000})
    assert method("densecl_lambda", "lambda=1.0*") == last
    for size in (1, 3, 5):
        assert method("densecl_grid", f"S={size}") == usual.model_copy(update={"grid": size})
    finer = usual.model_copy(update={"grid": 9, "output_stride": 16})
    assert method("densecl_grid", "S=9") == finer
    for row, name in (("random", "random"), ("max-sim Theta", "max-sim-projection")):
        expected = usual.model_copy(update={"matching": name})
        assert method("densecl_matching", row) == expected


def test_steps_from_densecl_to_pixcon_sim(plan):
    """Each row differs from the next in its step alone; the last published one is PixCon-Sim."""
    table = "pixcon_from_densecl"
    rows = list(dict.fromkeys(c.row for c in plan.tables[table].cells))
    methods = [
        before(plan, cell(plan, table, row, "voc seg mIoU"), PretrainRecipe)[0].method.model_dump()
        for row in rows
    ]
    changes = [{key for key in one if one[key] != two[key]} for one, two in pairwise(methods[:-1])]
    assert changes == [
        {"bn_group_size", "key_bn", "projector_norm"},
        {"predictor"},
        {"momentum", "momentum_end"},
        {"symmetric"},
        {"views"},
    ]
    views = methods[0]["views"]
    assert (views["crop_scale"], views["blur_probability"], views["saturation"]) == (
        (0.2, 1.0),
        0.5,
        0.4,
    )
    assert (views["second"], views["min_overlap"]) == (None, 0.0)
    sim = cell(plan, "pixcon_segmentation", "PixCon-Sim", "voc seg mIoU")
    assert cell(plan, table, rows[-2], "voc seg mIoU").runs == sim.runs
    assert {key for key in methods[-1] if methods[-1][key] != methods[-2][key]} == {"symmetric"}


def test_coco_plus_and_the_head_of_ade20k(plan):
    row = "PixCon-SR COCO+"
    recipes = {}
    for column in ("cityscapes mIoU", "voc seg mIoU", "ade20k mIoU"):
        found = cell(plan, "pixcon_coco_plus", row, column)
        assert [r.dataset for r in before(plan, found, PretrainRecipe)] == ["coco2017-plus"]
        (recipes[column],) = before(plan, found, SegmentationFinetuneRecipe)
    assert recipes["ade20k mIoU"].head.name == "fcn-mmseg"
    assert recipes["ade20k mIoU"].auxiliary.weight == 0.4
    assert recipes["ade20k mIoU"].backbone.output_stride == 8
    assert recipes["voc seg mIoU"].head.name == recipes["cityscapes mIoU"].head.name == "fcn-moco"
    assert recipes["voc seg mIoU"].auxiliary is None
    assert recipes["voc seg mIoU"].backbone.output_stride == 16


def test_what_is_trained_with_corners_is_judged_with_corners(plan):
    for run in plan.runs.values():
        if isinstance(run.recipe, SegmentationEvaluateRecipe):
            trained = plan.runs[f"finetune/{run.need('finetune')}"].recipe
            assert run.recipe.align_corners == trained.align_corners
            assert run.recipe.normalization == trained.augmentation.normalization


def test_only_random_weights_start_with_last_norms_at_zero(plan):
    finetunings = [
        (run.pretrained is None, run.recipe.zero_init_residual)
        for run in plan.runs.values()
        if isinstance(run.recipe, SegmentationFinetuneRecipe) and "fcn-mmseg" in run.id
    ]
    assert {(True, True), (False, False)} == set(finetunings)


def test_time_is_measured_on_pretrainings_of_one_epoch(plan):
    found = [
        cell(plan, "densecl_time", row, "ImageNet time/epoch") for row in ("MoCo-v2", "DenseCL")
    ]
    recipes = [plan.runs[key].recipe for c in found for key in c.runs]
    assert [(r.method.name, r.dataset, r.epochs) for r in recipes] == [
        ("moco-v2-coco", "imagenet", 1),
        ("densecl", "imagenet", 1),
    ]


def test_a_row_without_a_pretraining_has_no_time(plan_of):
    column = "{name: t, dataset: coco2017, metric: seconds_per_epoch}"
    change = f"overrides: {{tables: {{densecl_voc_seg: {{columns: [{column}]}}}}}}\n"
    text = f"title: T\nscale: paper\ntables: [densecl_voc_seg]\n{change}"
    with pytest.raises(UserError, match=r"row 'random init\.': column 't' measures pretraining"):
        plan_of(text)


@pytest.mark.parametrize("paper", ["densecl", "pixcon"])
def test_one_campaign_has_every_number_of_a_paper(paper, plan_of):
    plan = plan_of(f"paper_{paper}_ablations")
    assert {stem for stem in STEMS if stem.startswith(paper)} <= plan.tables.keys()
    assert plan_of(f"paper_{paper}").runs.keys() < plan.runs.keys()


@pytest.mark.parametrize("campaign", ["paper_densecl", "paper_pixcon"])
def test_the_campaigns_can_be_planned(campaign, plan_of):
    plan = plan_of(campaign)
    assert all(bool(c.runs) != bool(c.missing) for t in plan.tables.values() for c in t.cells)


def test_a_protocols_stride_is_refused_with_a_vision_transformer(plan_of):
    change = "overrides: {tables: {densecl_voc_seg: {rows: [{name: v, backbone: vit-s16}]}}}\n"
    with pytest.raises(UserError, match="vision transformer: output_stride and auxiliary"):
        plan_of(f"title: T\nscale: paper\ntables: [densecl_voc_seg]\n{change}")


def test_legacy_normalisation_needs_imagenets_input(plan_of):
    select = "select: {cp2_deeplabv3: {rows: [SimCLR 1000]}}\n"
    text = f"title: T\nscale: paper\ntables: [cp2_deeplabv3]\n{select}"
    change = "protocols.cp2.datasets.voc2012.augmentation.normalization=legacy"
    with pytest.raises(UserError, match="normalization: legacy; write imagenet"):
        plan_of(text, change)


@pytest.mark.parametrize(
    ("campaign", "changes", "message"),
    [
        (
            "paper_densecl",
            ["methods.densecl.grid=9"],
            r"method 'densecl': grid 9 is larger .* 7 x 7 positions .*write 7 or less",
        ),
        (
            "paper_pixcon",
            ["methods.pixcon-sim.grid=4", "methods.pixcon-sim.views.crop_size=96"],
            r"grid 4 .* 3 x 3 positions \(views.crop_size 96, output stride 32\)",
        ),
        (
            "paper_pixcon",
            [
                "campaign.execution.accumulate={pretrain: 2}",
                "campaign.select={pixcon_segmentation: {rows: [PixCon-Coord]}}",
            ],
            r"variant coord .* 2 micro-batches .*execution.accumulate.pretrain out",
        ),
        (
            "paper_pixcon",
            ["methods.slotcon.prototypes=30000"],
            r"method 'slotcon': 30000 prototypes are more than the 25088 positions of a batch",
        ),
        (
            "paper",
            ["methods.cp2.mask.area=[0.97, 1.0]"],
            r"method 'cp2': mask.area .* such rectangles fit into 224 x 224 pixels",
        ),
        (
            "paper_pixcon",
            ["methods.pixcon-sim.views.min_overlap=1.0"],
            r"min_overlap 1 .* the same central crop; choose a smaller min_overlap",
        ),
    ],
)
def test_what_the_job_would_refuse_is_refused_by_the_plan(plan_of, campaign, changes, message):
    with pytest.raises(UserError, match=message):
        plan_of(campaign, *changes)


def test_micro_batches_and_grids_that_fit_are_planned(plan_of):
    plan_of(
        "paper_densecl", "campaign.execution.accumulate={pretrain: 2}", "methods.densecl.grid=7"
    )


def test_rows_of_pixpro_and_slotcon(plan):
    """Supplement, Tables 5 and 6: each row has its options; the plain one is one everywhere."""

    def method(table, row, column="voc seg mIoU"):
        (recipe,) = before(plan, cell(plan, table, row, column), PretrainRecipe)
        return recipe.method

    plain = method("pixcon_segmentation", "SlotCon")
    six, four = "pixcon_slotcon_combinations", "pixcon_image_loss"
    assert plain == method(six, "SlotCon") == method(four, "SlotCon")
    for table, row, changes in (
        (six, "SlotCon + Pix.", {"pixel_branch": True}),
        (six, "SlotCon - Coord. + Sim.", {"matching": "sim"}),
        (six, "SlotCon - Coord. + Sim. + Img.", {"matching": "sim", "image_branch": True}),
        (six, "SlotCon + Sim.", {"matching": "both"}),
        (six, "SlotCon + Sim. + SR", {"matching": "both", "reweighting": True}),
        (four, "SlotCon + image", {"image_branch": True}),
    ):
        assert method(table, row) == plain.model_copy(update=changes)
    pixpro = method(four, "PixPro")
    assert not pixpro.instance_branch
    expected = pixpro.model_copy(update={"instance_branch": True})
    assert method(four, "PixPro + image") == expected


def test_coco_plus_of_slotcon(plan):
    found = cell(plan, "pixcon_coco_plus", "SlotCon COCO+", "voc seg mIoU")
    (recipe,) = before(plan, found, PretrainRecipe)
    assert (recipe.method.name, recipe.dataset) == ("slotcon", "coco2017-plus")

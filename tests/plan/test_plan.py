"""Tables become cells, cells become runs, and runs form a graph."""

import subprocess
import sys
from pathlib import Path

import pytest

from cp2.errors import UserError
from cp2.tables.external import external_note

BASE = """
title: Test
scale: mini
tables: [mini_segmentation]
substitute: {labelled: voc2012-train, unlabelled: voc2012-train}
"""
LABELLED = "[{name: a, dataset: labelled}]"
CP2 = "backbone: resnet18, pretrain: {method: cp2, epochs: 1, dataset: unlabelled}"
ROWS = (  # the last row's mapping is left open
    f"[{{name: pretrained, {CP2}}}, {{name: random, head_init: random, {CP2}}}, "
    "{name: none, backbone: resnet18"
)


@pytest.mark.parametrize("campaign", ["demo", "mini", "paper"])
def test_needs_exist_and_come_first(campaign, plan_of):
    plan = plan_of(campaign)
    seen = set()
    for key, run in plan.runs.items():
        assert key == run.key == f"{run.stage}/{run.id}"
        assert set(run.needs) <= seen
        seen.add(key)
    assert [run.key for run in plan.ancestors(list(plan.runs))] == list(plan.runs)


@pytest.mark.parametrize("campaign", ["demo", "mini", "paper"])
def test_every_run_serves_a_table(campaign, plan_of):
    plan = plan_of(campaign)
    wanted = [key for table in plan.tables.values() for key in table.runs]
    assert {run.key for run in plan.ancestors(wanted)} == set(plan.runs)
    assert all(plan.runs[key].stage == "evaluate" for key in wanted)


def test_tables_share_runs(plan_of):
    plan = plan_of("demo")
    deeplab, fcn = plan.tables["cp2_deeplabv3"], plan.tables["cp2_fcn"]
    shared = {run.key for run in plan.ancestors(deeplab.runs)} & {
        run.key for run in plan.ancestors(fcn.runs)
    }
    assert "checkpoint/demo-moco-v2-r200" in shared
    assert "dataset/demo-voc2012" in shared
    assert not shared & set(deeplab.runs)  # the heads differ, so no evaluation is the same
    alone = sum(
        len(plan.ancestors(list(cell.runs))) for table in (deeplab, fcn) for cell in table.cells
    )
    assert plan.requested == alone > len(plan.runs)


def test_the_same_cells_in_two_tables_are_the_same_runs(plan_of, tmp_path):
    row = "{name: other name, backbone: resnet18}"
    column = "{name: other column, dataset: labelled}"
    change = (
        f"tables.cp2_fcn={{protocol: small, head: aspp-small, rows: [{row}], columns: [{column}]}}"
    )
    plan = plan_of(BASE, "campaign.tables=[mini_segmentation, cp2_fcn]", change)
    first = plan.tables["mini_segmentation"].cells[0]
    (cell,) = plan.tables["cp2_fcn"].cells
    assert cell.runs == first.runs
    assert (cell.row, cell.column) == ("other name", "other column")


def test_cells_are_rows_times_columns_in_order(plan_of):
    table = plan_of("mini").tables["mini_segmentation"]
    rows = ["random init", "MoCo v2", "CP2 scratch", "CP2 QT"]
    columns = ["labelled mIoU", "labelled 10% mIoU"]
    assert [(c.row, c.column) for c in table.cells] == [(r, c) for r in rows for c in columns]


def test_a_cell_has_a_run_for_each_pair_of_seeds(plan_of):
    seeds = ("campaign.seeds.pretrain=[3, 5]", "campaign.seeds.finetune=[0, 1, 2]")
    plan = plan_of("mini", *seeds)
    cells = {c.row: c for c in plan.tables["mini_segmentation"].cells}
    assert len(cells["random init"].runs) == 3
    assert len(set(cells["CP2 QT"].runs)) == 6
    assert {r.seed for r in plan.stage("pretrain")} == {3, 5}
    tuned = [r for r in plan.stage("pretrain") if r.tags["method"] == "cp2-qt"]
    for run in tuned:  # Quick Tuning starts from the pretraining of its own seed
        assert plan.run("pretrain", run.need("pretrain")).seed == run.seed


def test_seeds_by_data_set(plan_of):
    change = "campaign.seeds.finetune_by_dataset={labelled: [7]}"
    plan = plan_of("mini", change)
    assert {run.seed for run in plan.stage("finetune")} == {7}


def test_recipes_of_a_column(plan_of):
    plan = plan_of("mini")
    fractions = {c.column: plan.runs[c.runs[0]] for c in plan.tables["mini_segmentation"].cells}
    few = plan.run("finetune", fractions["labelled 10% mIoU"].need("finetune"))
    all_ = plan.run("finetune", fractions["labelled mIoU"].need("finetune"))
    assert few.recipe.label_fraction == 0.1
    assert all_.recipe.label_fraction == 1.0
    assert few.recipe.classes == 21
    assert "-l0.1-" in few.id
    assert few.tags["labels"] == "0.1"


def test_weight_decay_and_head_follow_the_pretraining(plan_of):
    """CP² sec. 4.1: no decay where the head is pretrained; a classification backbone has none."""
    plan = plan_of("paper")
    found = {}
    for cell in plan.tables["cp2_deeplabv3"].cells:
        if cell.runs and cell.column == "voc2012 mIoU":
            finetune = plan.run("finetune", plan.runs[cell.runs[0]].need("finetune"))
            recipe = finetune.recipe
            found[cell.row] = (recipe.pretrained_head, recipe.optimization.optimizer.weight_decay)
    assert found["supervised"] == (False, 5e-4)
    assert found["MoCo v2 r.800"] == (False, 5e-4)
    assert found["CP2 200"] == (True, 0.0)
    assert found["CP2 QT r.800"] == (True, 0.0)


def test_a_random_head_is_asked_for_by_the_row(plan_of):
    plan = plan_of(BASE, f"tables.mini_segmentation.rows={ROWS}}}]")
    cells = {c.row: c for c in plan.tables["mini_segmentation"].cells}
    for row, pretrained in {"pretrained": True, "random": False, "none": False}.items():
        finetune = plan.run("finetune", plan.runs[cells[row].runs[0]].need("finetune"))
        assert finetune.recipe.pretrained_head is pretrained


def test_epochs_map(plan_of):
    plan = plan_of("mini", "campaign.epochs={200: 5, 20: 2}")
    epochs = {run.tags["method"]: run.recipe.epochs for run in plan.stage("pretrain")}
    assert epochs == {"moco-v2": 5, "cp2": 5, "cp2-qt": 2}


def test_a_warm_up_that_lasts_all_of_the_published_epochs(plan_of):
    warmup = "methods.moco-v2.schedule.warmup_epochs="
    with pytest.raises(UserError, match="warmup_epochs 200 would last all of the 200 epochs"):
        plan_of(BASE, f"{warmup}200")
    assert plan_of("mini", "campaign.epochs={200: 5, 20: 2}", f"{warmup}10")


def test_substitutes_and_published_names(plan_of):
    plan = plan_of("demo")
    assert {run.id for run in plan.stage("dataset")} == {
        "demo-imagenet",
        "demo-voc2012",
        "demo-cityscapes",
    }
    assert all(run.needs == ("world/scenes",) for run in plan.stage("dataset"))
    published = plan.run("checkpoint", "demo-moco-v2-r200")
    assert published.needs == ("publish/demo-moco-v2-r200",)


def test_missing_rows_say_why(plan_of, tmp_path):
    elsewhere = f"campaign.execution={{mirrors: ['{tmp_path}/mirror'], results: '{tmp_path}'}}"
    plan = plan_of("paper", elsewhere)
    missing = {c.row: c.missing for c in plan.tables["cp2_deeplabv3"].cells if c.missing}
    assert missing.keys() == {"MoCo v2 v.300", "CP2 QT v.300"}
    for row in ("MoCo v2 v.300", "CP2 QT v.300"):
        assert missing[row].startswith("moco_v2_vits16_300ep.pth has no public URL and is not in ")
        assert "never published" in missing[row]
    assert all(c.runs == () for c in plan.tables["cp2_deeplabv3"].cells if c.missing)

    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "moco_v2_vits16_300ep.pth").touch()
    cells = plan_of("paper", elsewhere).tables["cp2_deeplabv3"].cells
    assert all(c.runs for c in cells if "v.300" in c.row)


def test_what_was_never_published_can_be_pretrained_here(plan_of, tmp_path):
    execution = f"campaign.execution={{mirrors: ['{tmp_path}'], results: '{tmp_path}'}}"
    plan = plan_of("paper", execution, "campaign.stand_ins=true")
    cells = [c for c in plan.tables["cp2_deeplabv3"].cells if "v.300" in c.row]
    assert all(c.runs for c in cells)
    (own,) = (run for run in plan.stage("pretrain") if run.tags["method"] == "moco-v2-vits")
    assert (own.recipe.epochs, own.recipe.backbone.name) == (300, "vit-s16")
    quick = next(run for run in plan.stage("pretrain") if run.recipe.start == own.key)
    assert quick.tags["method"] == "cp2-qt"
    for cell in cells:
        assert "not the authors' checkpoint" in external_note(plan, cell, tmp_path)
    (tmp_path / "moco_v2_vits16_300ep.pth").touch()  # whoever has the file needs no stand-in
    plan = plan_of("paper", execution, "campaign.stand_ins=true")
    assert not [run for run in plan.stage("pretrain") if run.tags["method"] == "moco-v2-vits"]


def test_extra_rows_and_selection(plan_of):
    rows = {c.row for c in plan_of("paper").tables["cp2_fcn"].cells}
    assert "random init" not in rows
    rows = {c.row for c in plan_of("paper", "campaign.extra_rows=true").tables["cp2_fcn"].cells}
    assert "random init" in rows
    chosen = "campaign.select={cp2_fcn: {rows: [supervised], columns: [ade20k mIoU]}}"
    plan = plan_of("paper", "campaign.tables=[cp2_fcn]", chosen)
    (cell,) = plan.tables["cp2_fcn"].cells
    assert (cell.row, cell.column, len(cell.runs)) == ("supervised", "ade20k mIoU", 3)


def test_a_part_of_a_table_that_only_the_base_has_is_no_mistake(plan_of, tmp_path):
    base = tmp_path / "below.yaml"
    selection = "select: {cp2_fcn: {rows: [CP2 200]}}"
    base.write_text(f"title: Below\nscale: paper\ntables: [cp2_fcn]\n{selection}\n")
    above = f"base: {base}\ntitle: Above\ntables: [cp2_deviation]\n"
    assert set(plan_of(above).tables) == {"cp2_deviation"}
    with pytest.raises(UserError, match=r"select\.cp2_fcn: not in tables"):
        plan_of(above + selection.replace("CP2 200", "CP2 QT r.200"))
    with pytest.raises(UserError, match=r"select\.cp2_head_init: not in tables"):
        plan_of(above, "campaign.select={cp2_head_init: {columns: [voc2012 mIoU]}}")


def test_outputs_lie_in_the_run_folder(plan_of):
    plan = plan_of("demo")
    for run in plan.runs.values():
        outputs = run.outputs(Path("results"))
        assert list(outputs)[-1] == "done"
        assert {path.parent for path in outputs.values()} == {run.folder(Path("results")).path}
    places = [run.folder(Path("results")).path for run in plan.runs.values()]
    assert len(set(places)) == len(places)


def test_a_run_is_done_when_all_its_files_are_there_and_not_empty(plan_of, tmp_path):
    run = next(iter(plan_of("demo").stage("evaluate")))
    outputs = list(run.outputs(tmp_path).values())
    outputs[0].parent.mkdir(parents=True)
    for path in outputs:
        path.touch()
        assert not run.is_done(tmp_path)
        path.write_text("x")
    assert run.is_done(tmp_path)


def test_dependants_are_the_needs_the_other_way_round(plan_of):
    plan = plan_of("mini")
    pairs = {(need, run.key) for run in plan.runs.values() for need in run.needs}
    assert pairs == {(key, below) for key, keys in plan.dependants.items() for below in keys}


def test_looking_up_a_run(plan_of):
    plan = plan_of("demo")
    run = next(iter(plan.stage("pretrain")))
    assert plan.run("pretrain", run.id) is run
    with pytest.raises(UserError, match=f"no pretrain run '{run.id}x' in this campaign; did you"):
        plan.run("pretrain", run.id + "x")


def test_a_thousand_runs(plan_of):
    seeds = "campaign.seeds={pretrain: [0, 1, 2, 3], finetune: [0, 1, 2, 3, 4, 5]}"
    plan = plan_of("paper", seeds)
    assert len(plan.runs) > 1000


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("campaign.select={mini_segmentation: {rows: [CP2]}}", "no 'CP2' in the table; did you"),
        ("campaign.select={mini_segmentation: {columns: [x]}}", "select.mini_segmentation.columns"),
        ("campaign.select={mini: {}}", "select.mini: not in tables; allowed: mini_segmentation"),
        ("campaign.epochs={200: 5}", "epochs has no entry for 20; write epochs: {20: <epochs"),
        ("campaign.substitute.resnet81=vit-s16", "substitute.resnet81: no table and no file in"),
        ("campaign.seeds.finetune_by_dataset={labeled: [1]}", "did you mean 'labelled'?"),
        ("campaign.substitute.labelled=imagenet", "data set 'imagenet' has no labels"),
        ("campaign.substitute.labelled=labeled", "no dataset 'labeled' (from "),
        ("campaign.substitute.aspp-small=resnet18", "no head 'resnet18'"),
        (
            "campaign.substitute.resnet18=vit-s16",
            "protocol 'small' has no optimizer.vit and no datasets.labelled.lr.vit, with which "
            "backbone 'vit-s16' is trained; write them in the protocol's file, or take another",
        ),
        (
            f"tables.mini_segmentation.columns={LABELLED[:-1]}, {{name: b, dataset: camvid}}]",
            "protocol 'small' has no schedule for data set 'camvid'; allowed: labelled",
        ),
        (
            f"tables.mini_segmentation.rows={ROWS}, checkpoint: torchvision-r50}}]",
            "checkpoint 'torchvision-r50' is of backbone 'resnet50', the row asks for 'resnet18'",
        ),
        (
            f"tables.mini_segmentation.rows={ROWS}, checkpoint: torchvision-r5}}]",
            "no checkpoint 'torchvision-r5'",
        ),
    ],
)
def test_what_does_not_fit_together(change, expected, plan_of):
    with pytest.raises(UserError) as caught:
        plan_of(BASE, change)
    assert expected in str(caught.value)


def test_an_optimizer_that_a_protocol_lacks_is_told_with_the_backbone_that_names_it(plan_of):
    with pytest.raises(UserError) as caught:
        plan_of(
            BASE,
            "campaign.substitute.resnet18=efficientnet-lite0",
            "backbones.efficientnet-lite0.optimizer=vit",
        )
    assert str(caught.value) == (
        "protocol 'small' has no optimizer.vit and no datasets.labelled.lr.vit, with which "
        "backbone 'efficientnet-lite0' is trained; write them in the protocol's file, write "
        "optimizer: resnet in the backbone's file, or take another protocol or backbone"
    )


def test_planning_needs_no_torch():
    code = (
        "import sys\n"
        "from cp2.plan.build import build_plan\n"
        "from cp2.settings.load import load_campaign\n"
        "build_plan(load_campaign('demo'))\n"
        "heavy = {'torch', 'torchvision', 'timm', 'mlflow', 'pandas', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "[]"

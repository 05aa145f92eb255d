"""Which changes give which runs new ids."""

import json
import re
from hashlib import sha256

import pytest

from cp2.plan import graph
from cp2.plan.graph import make_run
from cp2.plan.recipes import WorldRecipe
from cp2.settings.base import hashed_fields
from cp2.settings.campaign import WorldSettings
from cp2.stages import STAGES

PLAIN = ("dataset", "checkpoint", "world", "publish")  # their ids are names, whatever the recipe


def _changed(before, after):
    """Digests by readable name (id without its hash) that differ, as stage -> names."""

    def by_name(plan):
        return {
            (r.stage, r.id if r.stage in PLAIN else r.id.rsplit("-", 1)[0]): r.digest
            for r in plan.runs.values()
        }

    old, new = by_name(before), by_name(after)
    assert old.keys() == new.keys()
    changed = {}
    for stage, name in sorted(old):
        if old[stage, name] != new[stage, name]:
            changed.setdefault(stage, set()).add(name)
    return changed


def test_an_id_is_a_slug_and_the_digests_beginning(plan_of):
    for run in plan_of("demo").runs.values():
        assert re.fullmatch(r"[a-z0-9._-]+", run.id)
        assert re.fullmatch(r"[0-9a-f]{64}", run.digest)
        if run.stage not in PLAIN:
            assert run.id.endswith(f"-{run.digest[:8]}")


def test_digest_is_the_documented_hash(plan_of):
    plan = plan_of("demo")
    for run in plan.runs.values():
        content = {
            "stage": run.stage,
            "recipe": hashed_fields(run.recipe),
            "seed": run.seed,
            "needs": [plan.runs[key].digest for key in run.needs],
            "version": 1,
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert run.digest == sha256(text.encode()).hexdigest()


def test_planning_twice_gives_the_same_ids(plan_of):
    assert list(plan_of("paper").runs) == list(plan_of("paper").runs)


def test_a_world_run_needs_nothing_of_its_place(plan_of, tmp_path):
    elsewhere = f"campaign.execution.results={tmp_path}/else where"
    assert list(plan_of("demo").runs) == list(plan_of("demo", elsewhere).runs)


@pytest.mark.parametrize(
    "assignment",
    [
        "campaign.execution.workers=7",
        "campaign.execution.log_every=1",
        "campaign.title=other",
        "campaign.resources.pretrain.gpus=8",
        "methods.cp2.title=other",
        "backbones.resnet-tiny.title=other",
        "heads.aspp-tiny.title=other",
        "protocols.cp2.title=other",
        "datasets.demo-voc2012.title=other",
        "datasets.demo-voc2012.licence=other",
        "tables.cp2_deeplabv3.note=other",
        "tables.cp2_deeplabv3.title=other",
    ],
)
def test_what_changes_no_number_changes_no_id(assignment, plan_of):
    assert list(plan_of("demo", assignment).runs) == list(plan_of("demo").runs)


def test_a_changed_method_changes_its_runs_and_all_that_start_from_them(plan_of):
    plan, other = plan_of("mini"), plan_of("mini", "methods.cp2.dense_weight=0.5")
    changed = _changed(plan, other)
    names = {name for stage in changed.values() for name in stage}
    assert set(changed) == {"pretrain", "finetune", "evaluate"}
    assert all("cp2" in name for name in names)
    every = {run.id.rsplit("-", 1)[0] for run in plan.runs.values() if run.stage not in PLAIN}
    assert {name for name in every if "cp2" in name} == names


def test_a_changed_start_changes_what_was_tuned_from_it(plan_of):
    changed = _changed(plan_of("mini"), plan_of("mini", "methods.moco-v2.momentum=0.5"))
    assert changed["pretrain"] == {"moco-v2-resnet18-e200-s0", "cp2-qt-resnet18-aspp-small-e20-s0"}
    assert not [name for name in changed["evaluate"] if "-cp2-resnet18" in name]
    assert not [name for name in changed["evaluate"] if "random" in name]


def test_a_changed_protocol_changes_no_pretraining(plan_of):
    change = "protocols.cp2.datasets.cityscapes.iterations=61"
    changed = _changed(plan_of("demo"), plan_of("demo", change))
    assert set(changed) == {"finetune", "evaluate"}
    assert all(name.startswith("demo-cityscapes") for name in changed["finetune"])
    assert all(name.startswith("demo-cityscapes") for name in changed["evaluate"])


def test_inference_changes_evaluations_only(plan_of):
    change = (
        "protocols.cp2.datasets.voc2012.inference={mode: slide, window: [96, 96], stride: [64, 64]}"
    )
    changed = _changed(plan_of("demo"), plan_of("demo", change))
    assert set(changed) == {"evaluate"}
    assert all(name.startswith("demo-voc2012") for name in changed["evaluate"])


def test_world_changes_everything(plan_of):
    plan = plan_of("demo")
    changed = _changed(plan, plan_of("demo", "campaign.world.seed=1"))
    assert sum(map(len, changed.values())) == len(plan.runs)


def test_finetuning_seeds_leave_other_seeds_alone(plan_of):
    fewer, more = plan_of("mini"), plan_of("mini", "campaign.seeds.finetune=[0, 1, 2]")
    assert set(fewer.runs) < set(more.runs)
    assert {r.seed for r in more.runs.values() if r.key not in fewer.runs} == {2}


def test_a_new_algorithm_version_changes_its_stage_and_all_below(plan_of, monkeypatch):
    before = plan_of("mini")
    monkeypatch.setitem(graph.ALGORITHM_VERSION, "finetune", 2)
    assert set(_changed(before, plan_of("mini"))) == {"finetune", "evaluate"}


def test_every_stage_has_a_version(plan_of):
    stages = {run.stage for run in plan_of("demo").runs.values()}
    # No table of the demo needs these.
    assert stages | {"cache", "masks"} == set(STAGES)


def test_seed_and_needs_are_part_of_an_id():
    recipe = WorldRecipe(world=WorldSettings())
    first = make_run("world", "a", recipe, [], {})
    digests = {
        make_run("world", "a", recipe, needs, tags, seed).digest
        for needs in ([], [first])
        for seed in (None, 0, 1)
        for tags in ({}, {"method": "x"})
    }
    assert len(digests) == 6  # tags do not count

"""Batches that do not go with their data set or their GPUs are known before any job starts."""

import json

import pytest
from costing import configuration, finish

from cp2.plan.build import build_plan
from cp2.plan.fit import misfits


@pytest.fixture
def found(tmp_path):
    """Misfits of a small campaign with two pretrainings, by assignments and GPUs."""

    def find(*assignments, gpus=None, prepare=None, done=False):
        settings = configuration(tmp_path, *assignments)
        plan = build_plan(settings)
        if prepare is not None:
            for run in plan.stage("dataset"):
                path = run.outputs(settings.results)["done"]
                path.parent.mkdir(parents=True, exist_ok=True)
                splits = {name: {"images": prepare} for name in ("train", "val", "unlabelled")}
                path.write_text(json.dumps({"splits": splits}))
        for run in plan.runs.values() if done else ():
            finish(run, settings.results)
        execution = settings.campaign.execution
        return misfits(plan.runs.values(), plan, settings.results, execution, gpus or {})

    return find


def test_what_fits(found):
    assert found() == []
    assert found(gpus={"pretrain": 2, "finetune": 2}) == []
    assert found(prepare=10**6) == []


def test_more_in_a_batch_than_in_the_data_set(found):
    lines = found(prepare=127)
    assert [line.split(":")[0][:11] for line in lines] == ["pretrain/mo", "pretrain/cp"]
    assert "batch_size 128 of method 'moco-v2' is more than the images of data set" in lines[0]
    assert found(prepare=128) == []
    assert found(prepare=127, done=True) == []  # what is made is made


def test_a_batch_that_gpus_and_micro_batches_cannot_share(found):
    lines = found(gpus={"pretrain": 7})
    assert len(lines) == 2
    assert "128 of method 'cp2' cannot be shared evenly by 7 GPUs x 1 micro-batches" in lines[1]
    (line,) = found(gpus={"finetune": 3})
    assert line.startswith("finetune/")
    assert " and 15 more: batch_size 16 of the protocol" in line

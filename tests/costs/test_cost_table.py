"""Throughput tables: what is read, which row is taken, what is estimated without one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from campaigns import CONFIGS
from costing import configuration, rows

from cp2.costs.table import SHIPPED, read_throughput
from cp2.costs.work import Kind, Work, work_of
from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.settings.load import load_campaign

KIND = Kind("finetune", None, "resnet18", "aspp-small", (192, 192), "off")
FINETUNE = Work(KIND, 16, 8000, gflop=20.0)


def _read(folder: Path, content, device=None, works=(FINETUNE,)):
    path = folder / "table.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_throughput(path, works, device)


def test_a_list_and_the_file_of_a_bench_are_the_same_table(tmp_path):
    plain = _read(tmp_path, rows(1, 2, 3, 4))
    bench = _read(tmp_path, {"benches": {"step": 1}, "throughput": rows(1, 2, 3, 4)})
    yaml = _read(
        tmp_path,
        "- {stage: finetune, backbone: resnet18, head: aspp-small, crop_size: 192, device: X1,\n"
        "   samples_per_second: 3e0, source: a test}\n",
    )
    assert plain.rows == bench.rows
    assert plain.row(FINETUNE).samples_per_second == yaml.row(FINETUNE).samples_per_second == 3


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "evaluate"},
        {"method": "cp2"},
        {"backbone": "resnet50"},
        {"head": None},
        {"crop_size": 193},
        {"crop_size": [192, 193]},
        {"amp": "bf16"},
        {"output_stride": 8},
        {"auxiliary": "fcn"},
    ],
)
def test_another_kind_of_work_is_no_substitute(tmp_path, change):
    (row,) = rows(0, 0, 3, 0)
    assert _read(tmp_path, [row]).row(FINETUNE)
    assert _read(tmp_path, [row | change]).row(FINETUNE) is None


def test_the_nearest_batch_size_counts(tmp_path):
    (row,) = rows(0, 0, 3, 0)
    sizes = {None: 1.0, 2: 2.0, 12: 3.0, 64: 4.0}
    given = [row | {"batch_size": n, "samples_per_second": rate} for n, rate in sizes.items()]
    assert _read(tmp_path, given).row(FINETUNE).batch_size == 12
    assert _read(tmp_path, given[:1]).row(FINETUNE).batch_size is None


def test_the_device_that_knows_most_is_taken(tmp_path):
    settings = configuration(tmp_path)
    plan = build_plan(settings)
    works = [work for run in plan.runs.values() if (work := work_of(run, plan, tmp_path))]
    content = rows(1, 0, 0, 0, device="A") + rows(1, 2, 0, 4, device="B") + rows(1, 2, 3, 0)
    table = _read(tmp_path, content, works=works)
    assert (table.device, table.others) == ("B", ("A", "X1"))
    assert _read(tmp_path, content, "A", works).device == "A"
    assert _read(tmp_path, content, works=[]).device == "A"


@pytest.mark.parametrize(("device", "unit"), [("cpu (x)", "hours"), ("H200", "GPU-hours")])
def test_units(tmp_path, device, unit):
    assert _read(tmp_path, rows(1, 2, 3, 4, device=device)).unit == unit


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ([], ["throughput", "at least 1"]),
        ({"rows": []}, ["throughput", "is missing"]),
        ("", ["throughput", "must be a list"]),
        ("3", ["throughput", "must be a list"]),
        ("[{", ["not valid YAML"]),
        ([rows(0, 0, 3, 0)[0] | {"samples_per_second": 0}], ["samples_per_second = 0"]),
        ([rows(0, 0, 3, 0)[0] | {"samples_per_second": "3"}], ["must be a number, found text"]),
        ([rows(0, 0, 3, 0)[0] | {"stage": "finetun"}], ["did you mean 'finetune'"]),
        ([rows(0, 0, 3, 0)[0] | {"crop": 3}], ["unknown key", "crop_size"]),
    ],
)
def test_wrong_tables_are_named(tmp_path, content, messages):
    with pytest.raises(UserError) as caught:
        _read(tmp_path, content)
    for message in ["table.json", *messages]:
        assert message in str(caught.value)


def test_a_missing_table_and_a_missing_device_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: cannot be read: No such file"):
        read_throughput(tmp_path / "none.json", [])
    with pytest.raises(UserError, match=r"--device 'X2'.*did you mean 'X1'"):
        _read(tmp_path, rows(1, 2, 3, 4), device="X2")


# Estimates by FLOP ------------------------------------------------------------------------------

RATE = {"device": "X1", "amp": ["off", "fp16"], "gflops": 600.0, "source": "a guess"}


def test_work_without_a_row_is_estimated_by_its_flop(tmp_path):
    moco, *_ = rows(1, 0, 0, 0)
    table = _read(tmp_path, {"throughput": [moco], "flop_rates": [RATE]}, works=[FINETUNE])
    row = table.row(FINETUNE)
    assert row.samples_per_second == 30
    assert (row.certainty, row.source) == ("estimated", "a guess / 20.0 GFLOP")
    assert (row.stage, row.crop_size, row.batch_size, row.amp) == (
        "finetune",
        (192, 192),
        16,
        "off",
    )
    half = replace(FINETUNE, kind=replace(FINETUNE.kind, amp="fp16", auxiliary="fcn"))
    assert table.row(half).auxiliary == "fcn"
    assert table.row(replace(FINETUNE, kind=replace(FINETUNE.kind, amp="bf16"))) is None


def test_a_row_counts_more_than_an_estimate(tmp_path):
    table = _read(
        tmp_path, {"throughput": rows(0, 0, 3, 0), "flop_rates": [RATE]}, works=[FINETUNE]
    )
    assert table.row(FINETUNE).samples_per_second == 3


def _measured(**change):
    (row,) = rows(0, 0, 30, 0)
    return row | {"auxiliary": "fcn", "gflop": 40.0} | change


def test_work_without_a_row_is_estimated_by_a_measured_row_of_its_stage(tmp_path):
    content = {"throughput": [_measured()], "flop_rates": [RATE]}
    row = _read(tmp_path, content, works=[FINETUNE]).row(FINETUNE)
    assert row.samples_per_second == 60
    assert (row.certainty, row.auxiliary) == ("estimated", None)
    assert row.source == "a test: 30 x 40.0 / 20.0 GFLOP"


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "evaluate"},
        {"amp": "bf16"},
        {"gflop": None},
        {"certainty": "published"},
        {"device": "X2"},
    ],
)
def test_rows_that_say_nothing_of_other_work(tmp_path, change):
    content = {"throughput": [_measured(**change)], "flop_rates": [RATE]}
    there = _read(tmp_path, content, "X1", works=[FINETUNE])
    assert there.row(FINETUNE).samples_per_second == 30  # by the table's rate


def test_small_networks_on_a_cpu_do_not_go_by_flop(tmp_path):
    assert _read(tmp_path, [_measured(device="cpu (x)")], works=[FINETUNE]).row(FINETUNE) is None


def test_the_nearest_measured_row_counts(tmp_path):
    other = _measured(backbone="resnet50", gflop=20.0, samples_per_second=1.0)
    far = _measured(gflop=400.0, samples_per_second=2.0)
    for given, rate in (([other], 1), ([other, far], 40), ([other, far, _measured()], 60)):
        assert _read(tmp_path, given, works=[FINETUNE]).row(FINETUNE).samples_per_second == rate


def test_a_bench_of_cp2_tells_the_cost_of_its_relatives(tmp_path):
    """A row that `cp2 bench` writes, against every pretraining of the relatives."""
    known = [r | {"gflop": 10.0} for r in rows(0, 8, 0, 0)]
    plan = build_plan(load_campaign("paper_densecl", (), CONFIGS))
    works = [w for run in plan.runs.values() if (w := work_of(run, plan, tmp_path))]
    pretrainings = [w for w in works if w.kind.stage == "pretrain"]
    table = _read(tmp_path, known, works=works)
    for work in pretrainings:
        if work.kind.amp == "off":
            assert table.row(work).samples_per_second == pytest.approx(80 / work.gflop)
    assert {work.kind.amp for work in pretrainings} == {"off"}


def test_a_device_with_rows_is_taken_before_one_with_a_rate(tmp_path):
    content = {"throughput": rows(1, 0, 3, 0), "flop_rates": [RATE | {"device": "A"}]}
    table = _read(tmp_path, content, works=[FINETUNE])
    assert (table.device, table.others) == ("X1", ("A",))
    content["throughput"] = rows(1, 0, 0, 0)
    table = _read(tmp_path, content, works=[FINETUNE])
    assert (table.device, table.others) == ("A", ("X1",))
    assert table.row(FINETUNE).device == "A"


@pytest.mark.parametrize(
    ("campaign", "device"),
    [
        ("demo", "CPU core"),
        ("mini", "A100"),
        ("paper", "A100"),
        ("paper_densecl", "A100"),
        ("paper_densecl_ablations", "A100"),
        ("paper_pixcon", "A100"),
        ("paper_pixcon_ablations", "A100"),
    ],
)
def test_the_shipped_table_knows_the_campaigns_of_the_project(tmp_path, campaign, device):
    settings = load_campaign(campaign, (), CONFIGS)
    plan = build_plan(settings)
    works = [work for run in plan.runs.values() if (work := work_of(run, plan, tmp_path))]
    table = read_throughput(CONFIGS / SHIPPED, works)
    assert not {str(work.kind) for work in works if table.row(work) is None}
    assert table.device == device

"""What a bench leaves behind, and that the cost table of the plan reads it."""

import json

import pytest
import torch

from cp2.bench.record import describe_machine, slug, throughput_row, write_figures
from cp2.bench.sizes import sizes
from cp2.settings.throughput import ThroughputTable

CPU = torch.device("cpu")


def test_benches_share_a_file_and_keep_their_own_machine(tmp_path):
    machine = describe_machine(CPU)
    row = throughput_row("pretrain", sizes("pretrain", CPU), 12.5, machine, method="cp2")
    path = write_figures(tmp_path, "pretrain", {"machine": machine, "throughput": [row]})
    assert path == tmp_path / f"{slug(machine)}.json"
    other = machine | {"git_commit": "0" * 40}
    assert write_figures(path, "data", {"machine": other}) == path
    content = json.loads(path.read_text())
    assert set(content["benches"]) == {"data", "pretrain"}
    assert content["benches"]["data"]["machine"]["git_commit"] == "0" * 40
    assert content["benches"]["pretrain"]["machine"] == machine
    write_figures(path, "pretrain", {"machine": machine, "throughput": [row | {"batch_size": 1}]})
    rows = json.loads(path.read_text())["throughput"]
    assert [one["batch_size"] for one in rows] == [1]  # measured again: replaced
    table = ThroughputTable.model_validate_json(json.dumps({"throughput": rows}))
    assert table.throughput[0].samples_per_second == 12.5


@pytest.mark.parametrize("stage", ["pretrain", "finetune", "evaluate"])
def test_rows_are_rows_of_the_cost_table(stage):
    machine = {"device": "NVIDIA H200", "cpu": "", "git_commit": None}
    row = throughput_row(stage, sizes(stage, CPU), 3.0, machine, crop_size=(128, 512))
    table = ThroughputTable.model_validate_json(json.dumps({"throughput": [row]}))
    assert table.throughput[0].device == "NVIDIA H200"
    assert table.throughput[0].crop_size == (128, 512)


def test_rows_say_what_other_work_is_estimated_by():
    machine = {"device": "NVIDIA H200", "cpu": "", "git_commit": None}
    found = {}
    for stage in ("pretrain", "finetune", "evaluate"):
        on_gpu = sizes(stage, torch.device("cuda"))
        row = throughput_row(stage, on_gpu, 3.0, machine, output_stride=32, flops=2.5e9)
        found[stage] = (row["amp"], row["output_stride"], row["gflop"])
    assert found["pretrain"] == found["finetune"] == ("bf16", 32, 2.5)
    assert found["evaluate"] == ("off", 32, 2.5)  # as evaluations are planned


def test_the_machine_is_described_without_host_name_and_paths():
    machine = describe_machine(CPU)
    assert {"device", "cpu", "driver", "torch", "torchvision", "python", "git_commit"} <= set(
        machine
    )
    assert not {"host", "command", "platform", "slurm_job"} & set(machine)
    assert slug(machine | {"device": "NVIDIA H100 80GB HBM3"}) == "nvidia-h100-80gb-hbm3"

"""From timings to figures, and to lines."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.figures import percentile, print_table, slug, summarize, write_figures
from benchmarks.harness import Timing, Variant
from benchmarks.loops import ON_THAT_NETWORK, all_methods, configuration, measured
from benchmarks.machine import describe_machine, matmul_peak, peak_of_events, traced_peak_mib
from benchmarks.sizes import STAGES, Sizes, sizes_of
from benchmarks.step import describe
from cp2.costs.measure import PREFETCH
from cp2.errors import UserError
from cp2.training.pretrain import build

SMALL = Sizes("resnet-tiny", "aspp-tiny", 96, 16, 0, 1, 1, "off", queue=64)


def timing(rate, waited=None, steps=(1.0,)):
    return Timing(int(rate), 1.0, steps, waited, None, 100.0 + rate)


def variants():
    def nothing(watch):
        raise AssertionError

    return [
        Variant("theirs", nothing, 1, "published", precision="off", flops=2.0),
        Variant("ours", nothing, 1, "ours", precision="bf16", flops=3.0),
        Variant("other", nothing, 1, "ours", limit="second limit"),
        Variant("limit", nothing, 1, "limit"),
        Variant("work of its own", nothing, 1, "relative"),
        Variant("second limit", nothing, 1, "limit"),
    ]


TIMINGS = {
    "theirs": [timing(10), timing(30), timing(20)],
    "ours": [timing(60, 0.1), timing(40, 0.3), timing(50, 0.2)],
    "other": [timing(20)],
    "limit": [timing(100)],
    "work of its own": [timing(5)],
    "second limit": [timing(25)],
}


def test_medians_ratios_and_shares():
    figures = summarize(variants(), TIMINGS, {"off": 80.0, "bf16": 200.0}, {"ours": 7.0})
    ours = figures["ours"]
    assert ours["samples_per_second"] == {
        "median": 50,
        "min": 40,
        "max": 60,
        "rounds": [60, 40, 50],
    }
    assert ours["ratio"] == 50 / 20
    assert ours["share_of_limit"] == 0.5
    assert ours["data_wait"] == 0.2
    assert ours["mfu"] == 50 * 3 / 200
    assert ours["host_mib"] == 160
    assert ours["tensor_mib"] == 7
    assert figures["theirs"]["tensor_mib"] is None
    assert figures["theirs"]["mfu"] == 20 * 2 / 80
    assert figures["theirs"]["ratio"] is None
    assert figures["theirs"]["data_wait"] is None
    assert figures["other"]["share_of_limit"] == 20 / 25
    assert figures["other"]["mfu"] is None
    assert figures["limit"]["share_of_limit"] is None
    assert figures["work of its own"]["ratio"] is None


@pytest.mark.parametrize(
    ("n", "p50", "p95"), [(1, 1, 1), (2, 1, 2), (19, 10, 19), (20, 10, 19), (21, 11, 20)]
)
def test_percentiles(n, p50, p95):
    values = range(1, n + 1)
    assert (percentile(values, 0.5), percentile(values, 0.95)) == (p50, p95)


def test_every_variant_is_printed():
    machine = {"device": "cpu", "cpu": "abacus", "torch": "0", "cores": 1, "load": 2.5}
    lines = []
    print_table(
        {"variants": summarize(variants(), TIMINGS), "machine": machine, "images": "3 given"},
        lines.append,
    )
    assert "abacus" in lines[1]
    assert "load 2.5" in lines[2]
    assert [line.split("  ")[0] for line in lines[-6:]] == list(TIMINGS)
    assert len({len(line) for line in lines[-7:]}) == 1  # columns stand below each other


def test_the_rate_of_matrix_products():
    assert matmul_peak(torch.device("cpu"), "off", size=16) > 0


def test_arithmetic_is_that_of_each_methods_own_network():
    names = ["cp2", "moco-v2", "moco-v2-coco", "densecl", "moco-v2-plus", "pixcon-sr"]
    flops = {one.name: one.flops for one in measured(configuration(), names, SMALL)}
    assert flops["moco-v2-coco"] < flops["moco-v2"] < flops[ON_THAT_NETWORK]
    assert flops[ON_THAT_NETWORK] == flops["cp2"]
    assert flops["moco-v2-coco"] < flops["densecl"] < 1.2 * flops["moco-v2-coco"]
    assert 2 * flops["moco-v2-coco"] < flops["moco-v2-plus"] < flops["pixcon-sr"]


def test_methods_have_the_network_that_the_plan_gives_them():
    found = {
        one.name: one for one in measured(configuration(), ["cp2", "moco-v2", "densecl"], SMALL)
    }
    strides = {name: one.recipe.backbone.output_stride for name, one in found.items()}
    assert strides == {"cp2": 16, ON_THAT_NETWORK: 16, "moco-v2": 16, "densecl": 32}
    assert {name for name, one in found.items() if one.recipe.head} == {"cp2", ON_THAT_NETWORK}
    assert found["densecl"].baseline is None  # MoCo v2 at another stride is no baseline
    assert (
        "densecl (resnet-tiny at output stride 32): no MoCo v2"
        in describe([found["densecl"]], {})[0]
    )
    assert all(one.recipe.method.queue_size == SMALL.queue for one in found.values())


def test_every_method_can_be_measured_at_the_defaults():
    config = configuration()
    names = all_methods(config, "resnet-tiny")
    assert names[:2] == ["cp2", "moco-v2"]
    assert {*names, "moco-v2-vits"} == set(config.names("methods"))  # of no ResNet
    assert set(all_methods(config, "vit-s16")) == {"cp2", "moco-v2", "moco-v2-vits"}
    for device in ("cpu", "cuda"):
        chosen = sizes_of("step", torch.device(device))
        found = measured(config, names, chosen)
        assert [one.name for one in found] == ["cp2", ON_THAT_NETWORK, *names[1:]]
        assert {one.baseline for one in found} == {ON_THAT_NETWORK, "moco-v2-coco", None}
        with torch.device("meta"):
            for one in found:
                with one.network():
                    assert build(one.recipe, Path())[0].encoders_of_images


def test_peak_of_traced_memory():
    def event(at, size, place):
        return {"name": "[memory]", "ts": at, "args": {"Bytes": size, "Addr": place}}

    blocks = [event(3, -8, 1), event(1, 8, 1), event(2, -99, 7), event(4, 10, 1), event(5, 2, 2)]
    assert peak_of_events([*blocks, {"name": "aten::add", "ts": 9}]) == 12
    assert peak_of_events([]) == 0


def test_traced_memory_of_known_tensors():
    def work():
        first = torch.zeros(2**18)
        second = first + 1
        del first
        return second * 2

    assert traced_peak_mib(work) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("stage", STAGES)
def test_default_sizes_name_what_there_is(stage, device):
    chosen = sizes_of(stage, torch.device(device))
    config = configuration()
    assert config.backbone(chosen.backbone).name == chosen.backbone
    assert config.head(chosen.head).name == chosen.head


def test_sizes():
    cpu = torch.device("cpu")
    chosen = sizes_of("pretrain", cpu, batch=8, workers=3, crop=None)
    assert (chosen.batch, chosen.crop) == (8, sizes_of("pretrain", cpu).crop)
    assert chosen.warmup > PREFETCH * 3
    gpu = sizes_of("pretrain", torch.device("cuda"))
    assert (gpu.backbone, gpu.head, gpu.crop, gpu.batch) == ("resnet50", "deeplabv3", 224, 256)
    with pytest.raises(UserError, match="--batch 0; 2 is the least"):
        sizes_of("step", cpu, batch=0)
    assert sizes_of("step", cpu, workers=0).workers == 0


def test_benchmarks_share_a_file_and_keep_their_own_machine(tmp_path):
    machine = describe_machine(torch.device("cpu"))
    path = write_figures(tmp_path, "pretrain", {"machine": machine, "images": "3 given images"})
    assert path == tmp_path / f"{slug(machine)}.json"
    other = machine | {"git_commit": "0" * 40}
    assert write_figures(path, "data", {"machine": other}) == path
    write_figures(path, "pretrain", {"machine": machine, "images": "4 given images"})
    benches = json.loads(path.read_text())["benches"]
    assert benches["data"] == {"machine": other}
    assert benches["pretrain"] == {"machine": machine, "images": "4 given images"}


def test_the_machine_is_described_without_host_name_and_paths():
    machine = describe_machine(torch.device("cpu"))
    assert {"device", "cpu", "driver", "torch", "torchvision", "python", "git_commit"} <= set(
        machine
    )
    assert not {"host", "command", "platform", "slurm_job"} & set(machine)
    assert slug(machine | {"device": "NVIDIA H100 80GB HBM3"}) == "nvidia-h100-80gb-hbm3"

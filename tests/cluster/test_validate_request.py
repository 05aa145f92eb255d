"""Which jobs can never run, and what is said about them."""

import pytest

from cp2.cluster import validate_request
from cp2.cluster.partitions import parse_sinfo
from cp2.cluster.validate_request import lacks
from cp2.errors import UserError
from cp2.plan.requests import JobRequest

CLUSTER = parse_sinfo(
    [
        "cpu*|up|1-00:00:00|64|256000|(null)|(null)|9",
        "gpu|up|2-00:00:00|48|500000|gpu:h100:4|h100|2",
        "gpu|up|2-00:00:00|32|900000|gpu:a100:8|a100|1",
        "shut|down|2-00:00:00|32|250000|gpu:a100:8|a100|9",
    ]
)


def _request(**changes: object) -> JobRequest:
    values = {"cpus": 8, "mem_mb": 64000, "minutes": 600, "gpus": 1, "partition": "gpu"} | changes
    return JobRequest("pretrain", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gpus": 8},
        {"gpus": 8, "constraint": "h100|a100"},
        {"constraint": "[h100|a100]"},
        {"gpus": 4, "gpu_model": "h100"},
        {"cpus": 48},
        {"mem_mb": 900000},
        {"minutes": 2880},
        {"partition": "cpu,gpu"},
        {"partition": None, "gpus": 0},
        {"nodes": 3},
        {"nodes": 2, "gpu_model": "h100"},
        {"nodes": 9, "gpus": 0, "partition": "cpu,gpu"},
    ],
)
def test_what_fits(changes: dict[str, object]) -> None:
    assert lacks(_request(**changes), CLUSTER) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpus": 9}, ["gpus: 9 GPUs on one node", "has 4 h100, 8 a100"]),
        ({"gpus": 5, "gpu_model": "h100"}, ["gpus: 5 h100 GPUs", "8 a100"]),
        ({"gpu_model": "b200"}, ["gpus: 1 b200 GPUs on one node"]),
        ({"partition": None}, ["partition 'cpu' has none"]),
        ({"partition": "gpus"}, ["'gpus' does not exist", "did you mean 'gpu'", "cpu, gpu, shut"]),
        ({"partition": "shut"}, ["partition 'shut' is not up"]),
        ({"cpus": 49}, ["cpus: 49; a node of partition 'gpu' has at most 48"]),
        ({"mem_mb": 900001}, ["mem_mb: 900001; a node", "at most 900000"]),
        ({"minutes": 2881}, ["minutes: 2881", "is 2880", "queues itself again"]),
        ({"constraint": "h10"}, ["constraint: no node has the feature 'h10'; did you mean 'h100'"]),
        ({"constraint": "(h100|b200*2)"}, ["no node has the feature 'b200'; did"]),
        ({"constraint": "h100&a100"}, ["constraint: no node has 'h100&a100'"]),
        ({"constraint": "h100", "gpus": 8}, ["gpus: 8 GPUs", "has 4 h100."]),
        ({"nodes": 4}, ["nodes: 4 of this kind; partition 'gpu' has 3. Ask for fewer"]),
        ({"nodes": 3, "gpus": 4, "constraint": "h100"}, ["nodes: 3", "'gpu' has 2."]),
        ({"nodes": 2, "gpus": 8}, ["nodes: 2", "partition 'gpu' has 1."]),
        ({"nodes": 10, "partition": "cpu,gpu", "gpus": 0}, ["'cpu' has 9 and partition 'gpu'"]),
        ({"gpus": 8, "cpus": 48}, ["has all at once: 8 GPUs, 48 cpus"]),
    ],
)
def test_what_never_fits(changes: dict[str, object], words: list[str]) -> None:
    (problem,) = lacks(_request(**changes), CLUSTER)
    for word in words:
        assert word in problem


def test_every_lack_is_named() -> None:
    assert len(lacks(_request(gpus=9, cpus=100, minutes=9999), CLUSTER)) == 3


def test_no_default_partition() -> None:
    (problem,) = lacks(_request(partition=None), CLUSTER[1:])
    assert "no default partition; name one: gpu, shut" in problem


def test_refused_before_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate_request, "cluster_nodes", lambda: CLUSTER)
    validate_request.validate_requests([_request()], "ours")
    with pytest.raises(UserError) as caught:
        validate_request.validate_requests([_request(), _request(gpus=9)], "ours")
    assert str(caught.value).startswith("site 'ours': the cluster cannot run these jobs, so none")
    assert "pretrain: gpus: 9 GPUs" in str(caught.value)
    with pytest.raises(UserError, match="pretrain: nodes: 4 of this kind; partition 'gpu' has 3"):
        validate_request.validate_requests([_request(nodes=4)], "ours")
    assert "cp2 doctor --site ours" in str(caught.value)


def test_nothing_is_refused_where_no_slurm_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate_request, "cluster_nodes", lambda: None)
    validate_request.validate_requests([_request(gpus=99)], None)

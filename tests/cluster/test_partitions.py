"""Reading sinfo."""

import pytest

from cp2.cluster.partitions import cluster_nodes, minutes_of, parse_sinfo

LINES = [
    "cpu*|up|1-00:00:00|64|256000|(null)|(null)|12",
    "gpu|up|2-00:00:00|48+|500000+|gpu:h100:4(S:0-1),shard:8|h100,ib|2",
    "gpu|up|2-00:00:00|32|250000|gpu:a100:2(S:0),gpu:a100:2(S:1)|a100|1",
    "mig|up|5:00|8|9000|gpu:a100-sxm4-80gb:2,gpu:1g.5gb:7|(null)|3",
    "old|drain|infinite|16|60000|gpu:8|(null)|1",
    "slurm_load_partitions: a warning",
]


def test_nodes() -> None:
    cpu, h100, a100, mig, old = parse_sinfo(LINES)
    assert (cpu.partition, cpu.default, cpu.gpus, cpu.features) == ("cpu", True, {}, frozenset())
    assert (h100.gpus, h100.cpus, h100.mem_mb) == ({"h100": 4}, 48, 500000)
    assert (h100.minutes, h100.default, h100.features) == (2880, False, {"h100", "ib"})
    assert (a100.gpus, a100.gpus_of("h100"), a100.gpus_of(None)) == ({"a100": 4}, 0, 4)
    assert [nodes.count for nodes in (cpu, h100, a100, mig, old)] == [12, 2, 1, 3, 1]
    assert mig.gpus == {"a100-sxm4-80gb": 2, "1g.5gb": 7}
    assert (old.gpus, old.up, old.minutes, old.gpus_of(None)) == ({"": 8}, False, None, 8)


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [
        ("5:00", 5),
        ("0:30", 0),
        ("1:00:00", 60),
        ("2-00:00:00", 2880),
        ("infinite", None),
        ("n/a", None),
    ],
)
def test_time_limits(limit: str, minutes: int | None) -> None:
    assert minutes_of(limit) == minutes


def test_no_slurm_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert cluster_nodes() is None

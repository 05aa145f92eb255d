"""What memory is left, in made-up /proc and /sys."""

from pathlib import Path

import pytest

from cp2.data.decoded import available_memory

MEMINFO = "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable: 8000 kB\n"


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def group(root: Path, name: str, limit: str, used: int, cached: int = 0) -> None:
    folder = f"sys/fs/cgroup/{name}"
    write(root, f"{folder}/memory.max", f"{limit}\n")
    write(root, f"{folder}/memory.current", f"{used}\n")
    write(root, f"{folder}/memory.stat", f"anon 1\ninactive_file {cached}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, "proc/self/cgroup", "0::/slurm/job_7/step_0\n")
    return tmp_path


def test_without_limits_what_the_machine_has(root: Path) -> None:
    assert available_memory(root) == 8000 * 1024


def test_the_tightest_group_on_the_way_up(root: Path) -> None:
    group(root, "slurm/job_7/step_0", "max", 900)
    group(root, "slurm/job_7", "5000", 2000, cached=500)
    group(root, "slurm", "9000", 1000)
    group(root, "other", "10", 10)
    assert available_memory(root) == 5000 - 2000 + 500


def test_the_top_group_of_a_container(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/\n")
    group(root, "", "7000", 1000)
    assert available_memory(root) == 6000


def test_control_groups_of_version_1(root: Path) -> None:
    write(root, "proc/self/cgroup", "5:cpu,cpuacct:/far\n4:memory:/jobs/7\n0::/\n")
    folder = "sys/fs/cgroup/memory/jobs"
    write(root, f"{folder}/memory.limit_in_bytes", "4000\n")
    write(root, f"{folder}/memory.usage_in_bytes", "1000\n")
    write(root, f"{folder}/memory.stat", "cache 9\ntotal_inactive_file 30\n")
    assert available_memory(root) == 3030


def test_never_less_than_nothing(root: Path) -> None:
    group(root, "slurm", "1000", 2000)
    assert available_memory(root) == 0


@pytest.mark.parametrize("text", [None, "", "MemAvailable: much kB\n", "MemAvailable:\n"])
def test_a_system_that_does_not_say(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        write(tmp_path, "proc/meminfo", text)
    assert available_memory(tmp_path) == 0

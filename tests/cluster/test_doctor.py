"""`cp2 doctor`: each check's good and bad line."""

import fcntl
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest

from cp2.cluster import doctor, validate_request
from cp2.cluster.commands import Answer
from cp2.cluster.doctor import examine, inodes, locking, shared_memory, torch_check, writable
from cp2.cluster.partitions import parse_sinfo
from cp2.plan.build import build_plan
from cp2.plan.requests import JobRequest
from cp2.plan.sources import files_to_unpack
from cp2.settings.load import Configuration, load_campaign

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    places = f'{{results: "{tmp_path}/results", reports: "{tmp_path}/reports"}}'
    return load_campaign("demo", [f"campaign.execution={places}"], CONFIGS)


@pytest.fixture
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "torch_check", lambda *_: doctor.Check(True, "torch"))


def _request(**changes: object) -> JobRequest:
    return JobRequest("pretrain", 1, 1000, 60, **changes)  # type: ignore[arg-type]


def _problems(configuration: Configuration, request: JobRequest, site: str | None) -> list[str]:
    return [str(c) for c in examine(configuration, [request], site, 10**9) if c.ok is False]


@pytest.mark.usefixtures("_no_torch")
def test_one_machine_without_a_cluster(configuration: Configuration) -> None:
    assert _problems(configuration, _request(), None) == []


@pytest.mark.usefixtures("_no_torch")
def test_a_cluster_that_is_not_there(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    text = "\n".join(_problems(configuration, _request(), "ours"))
    assert "sbatch: not found; is this a login node?" in text
    assert "sinfo does not answer, so site 'ours' cannot be compared" in text


@pytest.mark.usefixtures("_no_torch")
def test_the_site_against_the_cluster(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = parse_sinfo(["gpu*|up|1-00:00:00|64|256000|gpu:h100:4|(null)|2"])
    monkeypatch.setattr(doctor, "cluster_nodes", lambda: cluster)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(doctor, "accounting_answers", lambda: True)
    monkeypatch.setattr(validate_request, "ask", lambda *command: "theirs|normal\nours|normal\n")
    monkeypatch.setattr(validate_request, "answer", lambda *command: Answer(""))
    good = _request(gpus=4, gpu_model="h100", account="ours")
    assert _problems(configuration, good, "site") == []
    (gpus,) = _problems(configuration, _request(gpus=8), "site")
    assert gpus.startswith("PROBLEM pretrain: gpus: 8 GPUs on one node")
    assert _problems(configuration, _request(nodes=2), "site") == []
    (nodes,) = _problems(configuration, _request(nodes=4), "site")
    assert nodes.startswith("PROBLEM pretrain: nodes: 4 of this kind; partition 'gpu' has 2.")
    (account,) = _problems(configuration, _request(account="mine"), "site")
    assert account == (
        "PROBLEM pretrain: account 'mine' is not yours; allowed: ours, theirs (site 'site')"
    )


@pytest.mark.usefixtures("_no_torch")
def test_a_full_disk(configuration: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=10**6)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    (problem,) = _problems(configuration, _request(), None)
    assert "1.0 MB free" in problem
    assert "what is left to make takes about" in problem


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    assert writable(tmp_path / "results", "results", "mend it").ok
    (tmp_path / "file").write_text("")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"], "nothing is left behind"
    check = writable(Path("/proc/1"), "results", "mend it")
    assert check.ok is False
    assert check.text.endswith("; mend it")


@pytest.mark.usefixtures("_no_torch")
def test_a_container_without_a_home(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/proc/nohome")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (problem,) = [c.text for c in examine(configuration, [], None) if c.ok is False]
    assert "/proc/nohome/.cache" in problem
    assert "export XDG_CACHE_HOME" in problem


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared_memory(0, tmp_path).ok
    for free, ok in ((64e6, None), (8e9, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Mock(free=free))
        check = shared_memory(4, tmp_path)
        assert check.ok is ok
        assert ("--shm-size" in check.text) is (ok is None)


def test_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locking(tmp_path).ok
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)  # as on Lustre with localflock
    check = locking(tmp_path)
    assert check.ok is None
    assert "keeps nobody out" in check.text


@pytest.mark.parametrize(
    ("gpus", "models", "lacks"),
    [
        ("8 0 NVIDIA A100-SXM4-40GB", (), None),
        ("7 0 Tesla V100-SXM2-16GB", (), "Tesla V100-SXM2-16GB (compute capability 7.0)"),
        ("", ["tesla_v100"], "tesla_v100 (compute capability 7.0)"),
        ("", ["a100", "rtx"], None),
        ("", ["gtx1080ti"], "gtx1080ti (compute capability 6.1)"),
        ("", ["titan_v"], "titan_v (compute capability 7.0)"),
        ("", ["titanxp"], "(compute capability 6.1)"),
        ("", ["tesla-m60"], "(compute capability 5.2)"),
        ("", ["m40"], "(compute capability 5.2)"),
    ],
)
def test_torch_without_kernels_for_a_gpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: str,
    models: list[str],
    lacks: str | None,
) -> None:
    count = bool(gpus)
    line = f"printf '2.14.1+cu130 13.0 {count:d}\\nsm_75 sm_80 sm_90\\n{gpus}\\n'"
    _python(tmp_path, monkeypatch, line)
    check = torch_check(False, models)
    assert check.ok == (lacks is None), check.text
    assert lacks is None or (lacks in check.text and "whl/cu126" in check.text)


def _python(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """A Python that answers this, whatever it is asked."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{line}\n")
    file.chmod(0o755)
    monkeypatch.setattr(doctor.sys, "executable", str(file))


@pytest.mark.parametrize(
    ("line", "driver", "expected", "ok", "words"),
    [
        ("echo 2.14.1 13.0 4", None, True, True, "torch 2.14.1 sees 4 GPU(s)"),
        ("echo 2.14.1 13.0 0", None, False, True, "none needed here"),
        ("echo 2.14.1 13.0 0", None, True, False, "sees no GPU, and the campaign's jobs ask"),
        ("echo 2.14.1 13.0 0", "470.82", True, False, "for CUDA 13.0 and cannot use the driver"),
        ("echo no module torch >&2; exit 1", None, True, False, "imported: no module torch"),
        ("kill -11 $$", None, True, False, "torch cannot be imported: exit code -11"),
    ],
)
def test_torch(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    driver: str | None,
    expected: bool,
    ok: bool,
    words: str,
) -> None:
    _python(tmp_path, monkeypatch, line)
    monkeypatch.setattr(doctor, "driver_version", lambda: driver)
    check = torch_check(expected)
    assert (check.ok, words in check.text) == (ok, True), check.text


def test_room_for_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = build_plan(load_campaign("paper", [f"campaign.execution.results={tmp_path}"], CONFIGS))
    files, known = files_to_unpack(plan, tmp_path)
    assert known
    assert files > 1_281_167, "ImageNet's"
    inside = [f"campaign.execution.results={tmp_path}", "datasets.imagenet.unpack=false"]
    plan = build_plan(load_campaign("paper", inside, CONFIGS))
    assert files_to_unpack(plan, tmp_path) == (files - 1_281_167, True)
    full = Mock(f_files=10**6, f_favail=1_000_000)
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    assert inodes(tmp_path, 999_999).ok
    check = inodes(tmp_path / "not yet", files)
    assert check.ok is False
    assert "1,000,000 more files fit" in check.text
    assert f"{files:,}: set execution.results" in check.text
    monkeypatch.setattr(os, "statvfs", lambda _: Mock(f_files=0, f_favail=0))
    assert inodes(tmp_path, files).ok, "btrfs"


def test_files_of_data_sets_whose_number_is_not_known(
    configuration: Configuration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: Mock(f_files=10**6, f_favail=1000))
    left = files_to_unpack(build_plan(configuration), tmp_path)
    assert left == (0, False)
    unknown = "; how many images and labels are left to unpack is not known"
    assert inodes(tmp_path, *left).text.endswith(unknown)
    assert inodes(tmp_path, 7, all_known=False).text.endswith(
        "; at least 7 images and labels are left to unpack"
    )
    assert inodes(tmp_path, 0).text.endswith("; 0 images and labels are left to unpack")

"""Memory and GPU use: against the kernel's own figures and a stand-in for NVML."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cp2.training import machine
from cp2.training.machine import machine_metrics


def _field(status: str, name: str) -> float:
    """A field of /proc/<pid>/status in 10^9 bytes; the file gives kB."""
    lines = status.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e9


MEASURED = """
import json, torch
from pathlib import Path
from cp2.training.machine import machine_metrics
found = machine_metrics(torch.device("cpu"))
print(json.dumps([found, Path("/proc/self/status").read_text()]))
"""


def test_host_memory_is_what_the_kernel_says():
    """In a process of its own: pytest's has children if other tests fork theirs from a server."""
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, check=True)
    found, status = json.loads(done.stdout)
    assert set(found) == {"host_memory_gb"}
    assert found["host_memory_gb"] == pytest.approx(_field(status, "VmRSS"), rel=0.05)


def test_children_count_with_their_own_pages():
    code = "import sys; held = b'x' * 200_000_000; print(flush=True); sys.stdin.read()"
    before = machine_metrics(torch.device("cpu"))["host_memory_gb"]
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with_child = machine_metrics(torch.device("cpu"))["host_memory_gb"]
        private = _field(Path(f"/proc/{child.pid}/status").read_text(), "RssAnon")
        child.communicate()
    assert private > 0.2
    assert with_child - before == pytest.approx(private, abs=0.03)


def test_without_proc_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path)
    assert machine_metrics(torch.device("cpu")) == {}


class _Nvml:
    """Answers as NVML does: 0 is success."""

    def __init__(self, use: int, answer: int = 0) -> None:
        self.use, self.answer, self.asked = use, answer, b""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, name: bytes, _: object) -> int:
        self.asked = name
        return 0

    def nvmlDeviceGetUtilizationRates(self, _: object, found: object) -> int:
        found._obj.gpu = self.use  # type: ignore[attr-defined]
        return self.answer


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> _Nvml:
    library = _Nvml(73)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 3_500_000_000)
    properties = SimpleNamespace(uuid="1234-abcd")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    machine._gpu_handle.cache_clear()
    yield library
    machine._gpu_handle.cache_clear()


def test_a_gpu_is_asked_by_its_uuid(nvml: _Nvml):
    found = machine_metrics(torch.device("cuda"))
    assert (found["gpu_memory_gb"], found["gpu_use"]) == (3.5, 0.73)
    assert nvml.asked == b"GPU-1234-abcd"


def test_a_gpu_that_does_not_tell_is_left_out(nvml: _Nvml):
    nvml.answer = 3  # NVML_ERROR_NOT_SUPPORTED
    assert "gpu_use" not in machine_metrics(torch.device("cuda"))


def test_a_machine_without_nvml(nvml: _Nvml, monkeypatch: pytest.MonkeyPatch):
    def missing(_: str) -> None:
        raise OSError("libnvidia-ml.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert set(machine_metrics(torch.device("cuda"))) == {"host_memory_gb", "gpu_memory_gb"}

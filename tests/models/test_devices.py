"""What a job says about its GPUs before it begins."""

import pytest
import torch

from cp2.cluster.kernels import has_kernels
from cp2.errors import UserError
from cp2.models.devices import GIVEN, ON_CPU, check_gpus, choose_device


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """machine(3) has three GPUs; no scheduler gave any."""
    for name in (*GIVEN, ON_CPU):
        monkeypatch.delenv(name, raising=False)

    def with_gpus(count, trouble=None):
        def init():
            if trouble:
                raise RuntimeError(trouble)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"GPU {i}")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: (8, 6))
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90"])
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
        monkeypatch.setattr(torch.version, "cuda", "13.0")

    with_gpus(0)
    return with_gpus


def test_all_are_named(machine):
    machine(2)
    assert check_gpus(2) == "2 process(es), one a GPU: GPU 0, GPU 1"


def test_idle_ones_are_said(machine):
    machine(3)
    assert check_gpus(1) == "1 process(es), one a GPU: GPU 0; 2 more are visible and stay idle"


def test_without_gpus_the_cpu_is_used_and_said(monkeypatch):
    for name in GIVEN:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "0")
    assert check_gpus(1) == "1 process(es) on the CPU: no GPU is visible"
    with pytest.raises(UserError, match=r"2 GPU\(s\) are asked for, .* sees 0; .*CP2_DEVICE"):
        check_gpus(2)


def test_a_gpu_without_kernels_is_refused_at_once(machine, monkeypatch):
    machine(2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: (8 - i, 0))
    assert check_gpus(1).startswith("1 process(es), one a GPU: GPU 0;")
    message = r"no kernels for GPU 1, GPU 1 \(.* 7\.0\): .* sm_75, sm_80, sm_90\. .*whl/cu126"
    with pytest.raises(UserError, match=message):
        check_gpus(2)


@pytest.mark.parametrize(
    ("capability", "architectures", "served"),
    [
        ((7, 0), ["sm_75", "sm_80"], False),
        ((7, 5), ["sm_75", "sm_80"], True),
        (
            (8, 9),
            ["sm_80", "sm_90"],
            True,
        ),  # machine code of a major version runs on its later ones
        ((8, 0), ["sm_86"], False),  # but not on earlier ones
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90a", "sm_90"], False),
        ((10, 3), ["sm_100a"], False),
        ((10, 3), ["sm_100f"], True),
        ((12, 1), ["sm_90", "compute_90"], True),  # PTX is compiled for what is newer
        ((8, 6), ["compute_90"], False),
        ((12, 0), ["sm_120"], True),
    ],
)
def test_which_gpus_a_build_serves(capability, architectures, served):
    assert has_kernels(capability, architectures) == served


def test_fewer_than_asked(machine, monkeypatch):
    machine(1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    message = r"2 GPU\(s\) are asked for, .* sees 1 .*CUDA_VISIBLE_DEVICES=3\); CUDA_VIS.*=3\."
    with pytest.raises(UserError, match=message):
        check_gpus(2)


@pytest.mark.parametrize("name", GIVEN)
def test_none_although_the_scheduler_gave_one(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(UserError, match=rf"torch sees 0 \(the job was given {name}=1\)"):
        check_gpus(1)


def test_a_wrong_driver_is_named(machine, monkeypatch):
    machine(0, "The NVIDIA driver on your system is too old (found version 11040).\nUpdate it.")
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    with pytest.raises(UserError, match=r"too old \(found version 11040\)\. torch .* CUDA 13\.0;"):
        check_gpus(1)


def test_the_cpu_can_be_asked_for(machine, monkeypatch):
    machine(1)
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    monkeypatch.setenv(ON_CPU, "cpu")
    assert check_gpus(4) == "4 process(es) on the CPU, because CP2_DEVICE=cpu"
    assert choose_device() == torch.device("cpu")

"""Where models run, and whether the GPUs that a job was given are there."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from cp2.cluster.kernels import lacking_kernels
from cp2.errors import PassingError, UserError

ON_CPU = "CP2_DEVICE"  # "cpu" leaves GPUs alone
VISIBLE = "CUDA_VISIBLE_DEVICES"
GIVEN = ("SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE", VISIBLE)  # set where a scheduler gave GPUs


def choose_device() -> torch.device:
    """This process' GPU, the first that it sees unless it chose another, else the CPU."""
    if os.environ.get(ON_CPU) == "cpu":
        return torch.device("cpu")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Around what is computed in float32 also under autocast; the meta device knows no autocast."""
    off = nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
    with off, tensor_float(False):
        yield


@contextmanager
def tensor_float(allowed: bool) -> Iterator[None]:
    """Around float32 work: whether GPUs may round what they multiply to 10 bits (TF32).

    One setting for products and convolutions; PyTorch's defaults allow it in convolutions alone.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def device_name(device: torch.device) -> str:
    """The GPU's name, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def to_device(module: nn.Module, one_size: bool = True) -> None:
    """Move a module to the device; on a GPU channels-last, the faster layout of convolutions.

    Args:
        one_size: its images all have one size: cuDNN may try its algorithms for each
            convolution, which takes half a minute on an H200 and would begin anew at each size.
    """
    device = choose_device()
    module.to(device)
    if device.type == "cuda":
        module.to(memory_format=torch.channels_last)
        torch.backends.cudnn.benchmark = one_size


def check_gpus(processes: int, nodes: int = 1) -> str:
    """Which GPUs so many processes will use, one each, in one line; one alone may do without.

    Raises:
        UserError: fewer GPUs than processes, none although the job was given some, or one that this
            build of torch has no kernels for.
    """
    if os.environ.get(ON_CPU) == "cpu":
        return f"{processes} process(es) on the CPU, because {ON_CPU}=cpu"
    count, trouble = _visible()
    given = _given()
    if count >= processes:
        for i in range(processes):
            name, capability = torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i)
            built = torch.cuda.get_arch_list()
            if lack := lacking_kernels(f"GPU {i}, {name}", capability, built, torch.__version__):
                raise UserError(lack)
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(processes))
        idle = f"; {count - processes} more are visible and stay idle" if count > processes else ""
        return f"{processes} process(es), one a GPU: {names}{idle}"
    if count == 0 and processes == nodes == 1 and not given:
        return "1 process(es) on the CPU: no GPU is visible"
    seen = f"{VISIBLE}={os.environ[VISIBLE]}" if VISIBLE in os.environ else f"{VISIBLE} is not set"
    why = f" {trouble}." if trouble else ""
    was = f" (the job was given {', '.join(given)})" if given else ""
    raise PassingError(
        f"{processes} GPU(s) are asked for, but torch sees {count}{was}; {seen}.{why} Ask the "
        f"scheduler for {processes} on one node and compare with `nvidia-smi -L` there, start "
        f"fewer processes (--processes), or set {ON_CPU}=cpu to train on the CPU"
    )


def _visible() -> tuple[int, str]:
    """How many GPUs torch can use, and why it cannot use any, where it says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reason is told below, in one sentence
        if torch.cuda.is_available():
            return torch.cuda.device_count(), ""
        if not torch.backends.cuda.is_built():
            return 0, "This torch was built without CUDA: install a build with it"
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().split("\n")[0].rstrip(".")
            return 0, (
                f"CUDA cannot be started: {reason}. torch was built for CUDA {torch.version.cuda}; "
                "a wrong CUDA driver needs a newer driver on the node, or a torch for its version "
                "(`nvidia-smi` shows it)"
            )
    return 0, ""


def _given() -> list[str]:
    """What a scheduler said about the job's GPUs."""
    values = {name: os.environ.get(name, "") for name in GIVEN}
    nothing = {"", "-1", "NoDevFiles"}
    if values["SLURM_GPUS_ON_NODE"] == "0":
        values["SLURM_GPUS_ON_NODE"] = ""
    return [f"{name}={value}" for name, value in values.items() if value not in nothing]

"""How much arithmetic a step is, and how much this machine can do."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cp2.methods.contrastive import Contrastive
from cp2.methods.step import Method

SAMPLES = 2  # that arithmetic is counted on; batch norm wants more than one
GPU_SIZE, CPU_SIZE = 8192, 1024
DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pretraining_flops(build: Callable[[], Method], crop: int) -> float:
    """Of a sample's step: query forward and backward, key forward; symmetric methods twice.

    The predictor belongs to the query; losses and augmentation are left out.
    """

    def work() -> None:
        method = build().eval()
        assert isinstance(method, Contrastive)
        images = torch.empty(SAMPLES, 3, crop, crop)
        for _ in method.views:
            with torch.no_grad():
                method.encoders.key(images)
            features = method.encoders.query(images)
            _backward(features if method.predictor is None else method.predictor(features))

    return _flops(work)


def finetuning_flops(build: Callable[[], nn.Module], crop: int) -> float:
    """Of a sample's step: forward and backward."""
    return _flops(lambda: _backward(build()(torch.empty(SAMPLES, 3, crop, crop))))


def inference_flops(build: Callable[[], nn.Module], height: int, width: int) -> float:
    """Of an image's forward pass."""
    return _flops(lambda: build()(torch.empty(SAMPLES, 3, height, width)))


def _backward(features: Any) -> None:
    torch.stack([leaf.sum() for leaf in tree_leaves(features)]).sum().backward()


def _flops(work: Callable[[], object]) -> float:
    """Floating point operations of convolutions and matrix products of one image.

    A multiply-add is two. Counted on tensors without content, so it takes no time.

    Args:
        work: on SAMPLES images.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / SAMPLES


def matmul_peak(device: torch.device, precision: str, size: int | None = None) -> float:
    """Floating point operations a second of one large matrix product, median of five.

    Args:
        precision: as in the settings' `amp`: "off" is float32 (for convolutions PyTorch's default
            is TF32 on GPUs that have it, so it is allowed here, too), "bf16", "fp16".
    """
    size = size or (GPU_SIZE if device.type == "cuda" else CPU_SIZE)
    a, b = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        seconds = [_seconds(lambda: a @ b, device) for _ in range(6)][1:]
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * size**3 / statistics.median(seconds)


def matmul_peaks(device: torch.device, amp: str) -> dict[str, float]:
    """The peak of float32, and of `amp` where it is another precision."""
    return {name: matmul_peak(device, name) for name in dict.fromkeys(("off", amp))}


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin

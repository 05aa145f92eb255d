"""What GPUs may round to: one setting for products and convolutions of networks alone."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

from cp2.methods.losses import info_nce
from cp2.models.devices import full_precision, tensor_float
from cp2.training import parallel
from cp2.training.clock import StoppedForResumeError
from cp2.training.optimizers import Precision
from cp2.training.processes import PROCESSES, RANK

CPU = torch.device("cpu")


def allowed() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


class Seen(torch.autograd.Function):
    """Notes what is allowed when its gradient is computed."""

    notes: list[tuple[bool, bool]] = []  # noqa: RUF012

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        Seen.notes.append(allowed())
        return gradient


@pytest.mark.parametrize(
    ("amp", "tf32", "dtype"),
    [("off", True, torch.float32), ("ieee", False, torch.float32), ("bf16", True, torch.bfloat16)],
)
def test_forward_and_backward_of_networks(amp: str, tf32: bool, dtype: torch.dtype) -> None:
    before = allowed()
    precision = Precision(amp, CPU)
    weight = torch.ones(2, 2, requires_grad=True)
    with precision.autocast():
        assert allowed() == (tf32, tf32)
        made = Seen.apply(weight) @ weight.detach()
        assert made.dtype == dtype
        with full_precision(CPU):
            assert allowed() == (False, False)
            assert (weight @ weight).dtype == torch.float32
        assert allowed() == (tf32, tf32)
    Seen.notes.clear()
    precision.backward(made.sum())
    assert Seen.notes == [(tf32, tf32)]
    assert allowed() == before


@pytest.mark.parametrize("amp", ["off", "fp16"])
def test_the_gradients_norm_is_that_of_the_loss_without_its_scale(amp: str) -> None:
    weights = torch.tensor([[1.0, -2.0]], requires_grad=True), torch.tensor(3.0, requires_grad=True)
    unused = torch.ones(5, requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [weights[0], unused]}, {"params": [weights[1]]}], lr=1)
    precision = Precision(amp, CPU)
    precision.backward((weights[0] ** 2).sum() / 2 + 5 * weights[1])  # slopes 1, -2 and 5
    assert (precision.scaler.get_scale() > 1) == (amp == "fp16")
    found = precision.gradient_norm(optimizer).item()
    assert found == pytest.approx((1 + 4 + 25) ** 0.5)


def test_losses_are_float32_throughout(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = torch.einsum
    monkeypatch.setattr(torch, "einsum", lambda *a: (seen.append(allowed()), real(*a))[1])
    with tensor_float(True):
        info_nce(torch.ones(2, 3), torch.ones(2, 3), torch.ones(3, 4), 0.2)
    assert set(seen) == {(False, False)}


@pytest.mark.parametrize(
    ("error", "left"),
    [(None, True), (StoppedForResumeError("saved", 3), True), (ValueError("broken"), False)],
)
def test_processes_leave_their_group_when_all_stop_together(
    error: Exception | None, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after an error: the others may be waiting in an exchange."""
    log: list[str] = []
    for name, value in ((RANK, "0"), (PROCESSES, "2"), ("CP2_DEVICE", "cpu")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(parallel, "meet", lambda *_: (distributed.HashStore(), ["a", "b"]))
    monkeypatch.setattr(distributed, "all_reduce", lambda _: None)
    monkeypatch.setattr(distributed, "init_process_group", lambda *_, **__: log.append("joined"))
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: log.append("left"))
    with suppress(StoppedForResumeError, ValueError), parallel.joined(Path()):
        if error:
            raise error
    assert log == ["joined", "left"][: 1 + left]

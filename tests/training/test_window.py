"""Means of the loss terms, and what is done about steps that are not finite."""

import math

import pytest
import torch

from cp2.errors import UserError
from cp2.training.window import PATIENCE, Window


def filled(values: list[float], scaled: bool, saved: torch.Tensor | None = None) -> Window:
    window = Window(["loss", "other"], saved, scaled)
    for value in values:
        window.add({"loss": torch.tensor(value), "other": torch.tensor(1.0)})
        window.end_step()
    return window


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_only_a_scaled_loss_may_overflow(bad: float) -> None:
    with pytest.raises(UserError, match="step 12: loss is"):
        filled([1.0, bad, 3.0], scaled=False).means(13)
    window = filled([1.0, bad, 3.0], scaled=True)
    assert window.means(13) == {"loss": 2.0, "other": 1.0}
    assert window.skipped == 1
    assert len(window.tensor()) == 0


def test_too_many_in_a_row_stop_the_run_even_over_short_windows_and_a_resume() -> None:
    window = filled([2.0], scaled=True)
    window.means(1)
    window = filled([math.nan] * (PATIENCE - 1), scaled=True)
    assert window.means(PATIENCE) == {}  # nothing to log; nothing forgotten
    window.check(PATIENCE)
    resumed = filled([math.nan], scaled=True, saved=window.tensor())
    with pytest.raises(UserError, match="step 2: loss is nan"):
        resumed.means(PATIENCE + 1)
    recovered = filled([5.0], scaled=True, saved=window.tensor())
    assert recovered.means(PATIENCE + 1)["loss"] == 5.0
    assert recovered.skipped == PATIENCE - 1

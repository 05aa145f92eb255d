"""The loss terms since the last line of metrics.jsonl, kept on the device until they are read."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cp2.errors import UserError
from cp2.models.distributed import add_up

PATIENCE = 20  # steps in a row that overflow; a scale that is halved as often is none any more

# A number, or numerator and denominator of a share that is taken over the whole batch.
Term = Tensor | tuple[Tensor, Tensor]


class Window:
    """Collects each step's terms without waiting for the device, nor for other processes.

    A step's value of a term is its mean over micro-batches and processes; a share's is the sum of
    the numerators over that of the denominators. The content is part of the resume state, so that
    a resumed run logs the same means.

    Args:
        scaled: the loss is scaled (fp16). Steps that are not finite then change no weight, because
            the scaler skips them; they are left out of the means, and only `PATIENCE` in a row stop
            the run.
    Attributes:
        skipped: such steps, of the windows that are over.
    """

    def __init__(self, names: list[str], saved: Tensor | None = None, scaled: bool = False) -> None:
        self.names, self.scaled, self.skipped = names, scaled, 0
        self._rows: list[Tensor] = [] if saved is None else list(saved)  # (terms,) a step
        self._own: list[Tensor] = []  # (terms, 2) a later step: this process' sums
        self._step: Tensor | None = None

    def add(self, terms: Mapping[str, Term]) -> None:
        """A micro-batch's terms."""
        pairs = [_pair(terms[name]) for name in self.names]
        sums = torch.stack([part.detach().float() for pair in pairs for part in pair]).view(-1, 2)
        self._step = sums if self._step is None else self._step + sums

    def end_step(self) -> None:
        """The step's last micro-batch was added."""
        if self._step is not None:
            self._own.append(self._step)
            self._step = None

    def tensor(self) -> Tensor:
        """(steps, terms) so far; all processes call this together."""
        if self._own:
            sums = add_up(torch.stack(self._own))
            self._rows += list(sums[..., 0] / sums[..., 1].clamp(min=1))
            self._own = []
        return torch.stack(self._rows) if self._rows else torch.zeros(0, len(self.names))

    def check(self, step: int) -> None:
        """Stop where a term is not finite; all processes call this together.

        Args:
            step: number of steps done, the last row's.
        Raises:
            UserError: names the first step and term, and what to do.
        """
        values = self.tensor()
        bad = ~torch.isfinite(values)
        if self.scaled and (len(bad) < PATIENCE or not bad[-PATIENCE:].any(1).all()):
            return
        places = bad.nonzero().tolist()
        if places:
            row, column = places[0]
            found = values[row, column].item()
            raise UserError(
                f"step {step - len(values) + row + 1}: {self.names[column]} is {found}. "
                "The state before it is kept. Lower the learning rate, or switch amp off."
            )

    def means(self, step: int) -> dict[str, float]:
        """Means over the window, which is emptied; no number where no step was finite.

        Raises:
            UserError: a term is not finite.
        """
        self.check(step)
        rows = self.tensor()
        finite = rows[torch.isfinite(rows).all(1)] if self.scaled else rows
        if self.scaled and not len(finite):
            return {}  # the rows stay, and count towards what is too many
        self.skipped += len(rows) - len(finite)
        self._rows = []
        return dict(zip(self.names, finite.mean(dim=0).tolist(), strict=True))


def _pair(term: Term) -> tuple[Tensor, Tensor]:
    return term if isinstance(term, tuple) else (term, torch.ones_like(term))

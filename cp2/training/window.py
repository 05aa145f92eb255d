"""The loss terms since the last line of metrics.jsonl, kept on the device until they are read."""

from collections.abc import Mapping

import torch

from cp2.errors import UserError


class Window:
    """Collects each step's terms without waiting for the device.

    Its content is part of the resume state, so that a resumed run logs the same means.
    """

    def __init__(self, names: list[str], saved: torch.Tensor | None = None) -> None:
        self.names = names
        self._rows: list[torch.Tensor] = [] if saved is None else list(saved)

    def add(self, terms: Mapping[str, torch.Tensor]) -> None:
        """The step's scalars, in the order of `names`."""
        self._rows.append(torch.stack([terms[name].detach().float() for name in self.names]))

    def tensor(self) -> torch.Tensor:
        """(steps, terms) so far."""
        return torch.stack(self._rows) if self._rows else torch.zeros(0, len(self.names))

    def check(self, step: int) -> None:
        """Stop where a term is not finite.

        Args:
            step: number of steps done, the last row's.
        Raises:
            UserError: names the first step and term, and what to do.
        """
        bad = (~torch.isfinite(self.tensor())).nonzero().tolist()
        if bad:
            row, column = bad[0]
            found = self.tensor()[row, column].item()
            raise UserError(
                f"step {step - len(self._rows) + row + 1}: {self.names[column]} is {found}. "
                "The state before it is kept. Lower the learning rate, or switch amp off."
            )

    def means(self, step: int) -> dict[str, float]:
        """Means over the window, which is emptied.

        Raises:
            UserError: a term is not finite.
        """
        self.check(step)
        means = self.tensor().mean(dim=0).tolist()
        self._rows = []
        return dict(zip(self.names, means, strict=True))

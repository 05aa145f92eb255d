"""What MoCo v2+ changes about a step, whatever is compared (PixCon, supplement, Table 4)."""

from dataclasses import dataclass
from typing import Literal

from cp2.settings.contrastive import PlusSettings


@dataclass(frozen=True)
class Footing:
    """MoCo v2's by default.

    Attributes:
        momentum_end: what the momentum rises to by a cosine; None: it stays.
        symmetric: each view also asks the other.
        view_losses: how the losses of both views are joined, if symmetric.
        queue_view: whose keys join the queues, if symmetric.
    """

    momentum_end: float | None = None
    symmetric: bool = False
    view_losses: Literal["sum", "mean"] = "sum"
    queue_view: Literal["random", "both", "key"] = "key"

    @classmethod
    def of(cls, settings: PlusSettings) -> "Footing":
        """As the settings ask for it."""
        return cls(
            settings.momentum_end, settings.symmetric, settings.view_losses, settings.queue_view
        )


PLAIN = Footing()

"""Pairs of views that became the same central crop, because no second crop overlapped enough."""

from collections.abc import Callable

from torch import Tensor

from cp2.settings.views import ViewSettings

NOTED = 0.01  # share of the pairs from which on the log says it
_ENOUGH = 500  # pairs that are looked at before anything is said


class CentralPairs:
    """Counts them in this process' share of the batches; says once where they are many.

    Args:
        say: shows a line to the user.
    """

    def __init__(self, views: ViewSettings, say: Callable[[str], None]) -> None:
        self._least = views.min_overlap
        self._say = say
        self._said = False
        self.pairs = self.central = 0

    def check(self, view_boxes: Tensor) -> None:
        """Count a batch, view boxes (N, 2, 7) on the host; see cp2.augment.view_boxes."""
        if not self._least:
            return
        boxes = view_boxes[..., :4]
        self.pairs += len(boxes)
        self.central += int((boxes[:, 0] == boxes[:, 1]).all(1).sum())
        if not self._said and self.pairs >= _ENOUGH and self.central > NOTED * self.pairs:
            self._said = True
            self._say(
                f"{self.central} of the first {self.pairs} pairs of views are the same central "
                f"crop, because no second crop overlapped the first by views.min_overlap "
                f"{self._least:g}; a smaller one, or larger crops (views.crop_scale), would help"
            )

    def notes(self) -> list[str]:
        """For the run's record; none where it was never the case."""
        if not self.central:
            return []
        return [
            f"{self.central} of {self.pairs} pairs of views of this attempt (of the first "
            "process) were the same central crop, for want of an overlap (views.min_overlap)"
        ]

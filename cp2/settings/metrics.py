"""Metrics: what is measured of a model, in which unit, and which way is better.

Whatever prints, compares or logs a score asks here; scores.json holds values before `scale`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number that a table's column can show.

    Attributes:
        name: its key in scores.json and in a table's column.
        title: as an axis or a heading calls it.
        unit: of the printed number: "percent", "seconds".
        scale: printed number / stored number: 100 for shares of one, 1 for plain numbers.
        higher_is_better: which way is better.
        digits: of the printed number, after the point.
    """

    name: str
    title: str
    unit: str
    scale: float = 100.0
    higher_is_better: bool = True
    digits: int = 1

    @property
    def is_share(self) -> bool:
        """Whether stored values are shares of one, from 0 to 1."""
        return self.scale == 100.0


# Of a pretraining itself, whatever judges its weights.
SECONDS_PER_EPOCH = Metric(
    "seconds_per_epoch", "seconds an epoch", "seconds", scale=1.0, higher_is_better=False
)

"""Metrics: what is measured of a model, in which unit; and who measures them.

Whatever prints, compares or logs a score asks here; scores.json holds values before `scale`.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from cp2.errors import UserError
from cp2.settings.base import Name, Settings, unhashed
from cp2.settings.messages import nearest


@dataclass(frozen=True)
class Metric:
    """A number that a table's column can show.

    Attributes:
        name: its key in scores.json and in a table's column.
        title: as an axis or a heading calls it.
        unit: of the printed number: "percent", "seconds".
        scale: printed number / stored number: 100 for shares of one, 1 for plain numbers.
        digits: of the printed number, after the point.
    """

    name: str
    title: str
    unit: str
    scale: float = 100.0
    digits: int = 1

    @property
    def is_share(self) -> bool:
        """Whether stored values are shares of one, from 0 to 1."""
        return self.scale == 100.0


# Of a pretraining itself, whatever judges its weights.
SECONDS_PER_EPOCH = Metric("seconds_per_epoch", "seconds an epoch", "seconds", scale=1.0)


class ProtocolSettings(Settings):
    """What every protocol says; each kind is a subclass in `cp2/settings/protocols/`.

    Attributes:
        metrics: what it measures; the first is what a column shows that names none.
        seeded: whether a seed can change its scores of one pretrained model.
        trains_head: whether it trains the head that a table names.
        module: what adds its runs to a plan; "": `cp2/plan/protocols/<kind>.py`.
        datasets: what it fixes for each data set, by the name in the table.
    """

    metrics: ClassVar[tuple[Metric, ...]]
    seeded: ClassVar[bool] = True
    trains_head: ClassVar[bool] = False
    module: ClassVar[str] = ""

    kind: str
    name: Name
    title: str = unhashed()
    datasets: dict[Name, Any]

    def schedule_of(self, dataset: str) -> Any:
        """What is fixed for a data set, by the name in the table.

        Raises:
            UserError: there is none.
        """
        if dataset not in self.datasets:
            raise UserError(
                f"protocol {self.name!r} has no schedule for data set {dataset!r}; "
                f"{nearest(dataset, self.datasets)}"
            )
        return self.datasets[dataset]

    @abstractmethod
    def schedule(self, dataset: str) -> str:
        """How a model is judged on one of its data sets, in a few words for a table's note."""

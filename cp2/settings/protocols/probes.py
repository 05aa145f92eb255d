"""Probes: what the positions of a frozen backbone tell of classes, in minutes."""

from typing import Annotated, Literal

from pydantic import Field

from cp2.settings.base import Name, PositiveFloat, PositiveInt, Settings, Share, Size
from cp2.settings.metrics import Metric, ProtocolSettings

Fraction = Annotated[float, Field(gt=0, le=1)]


class ProbeSchedule(Settings):
    """What every probe fixes for one data set.

    Attributes:
        size: what images are resized to, whatever their shape.
        output_stride: of a ResNet; None: as configured.
        features: last map of the backbone, or behind a pretrained head or projection.
        label_fraction: share of the training images; a column may state another one.
    """

    size: Size = (160, 160)
    output_stride: Literal[8, 16, 32] | None = None
    features: Literal["backbone", "head", "projection"] = "backbone"
    label_fraction: Fraction = 1.0


class LinearSchedule(ProbeSchedule):
    """A linear classifier of standardised features.

    Attributes:
        l2: weights of the penalty |W|^2 / 2 beside the mean cross-entropy, of which the held-out
            images choose.
        held_out: share of the training images for that; the chosen one is fitted to all.
        max_iterations: of L-BFGS.
        tolerance: of the gradient's largest entry, where it ends; or earlier, where float32 tells
            no lower loss, which the log says.
    """

    l2: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1e-1, 1e-2, 1e-3, 1e-4)
    held_out: Annotated[Share, Field(gt=0, lt=1)] = 0.2
    max_iterations: PositiveInt = 1000
    tolerance: PositiveFloat = 1e-5


class KnnSchedule(ProbeSchedule):
    """Votes of the nearest positions of training images, by cosine.

    Attributes:
        neighbours: whose classes vote, weighted by exp(cosine / temperature) (Wu et al. 2018).
        bank: positions that are asked at most, spread evenly over the training images.
    """

    neighbours: PositiveInt = 20
    temperature: PositiveFloat = 0.07
    bank: PositiveInt = 20_000


class _ProbeSettings(ProtocolSettings):
    """Scores of positions; where an image as a whole has a class, of images."""

    metrics = (
        Metric("miou", "mIoU", "percent", digits=2),
        Metric("accuracy", "accuracy", "percent", digits=2),
        Metric("mean_accuracy", "mean class accuracy", "percent", digits=2),
    )
    seeded = False  # the same model always gets the same score


class LinearSettings(_ProbeSettings):
    """Linear segmentation of frozen features."""

    kind: Literal["linear-segmentation"]
    datasets: dict[Name, LinearSchedule]

    def schedule(self, dataset: str) -> str:
        """Image size, and how the penalty is chosen."""
        schedule = self.datasets[dataset]
        size = "x".join(map(str, schedule.size))
        return f"linear classifier of positions, images of {size}, L2 chosen on training images"


class KnnSettings(_ProbeSettings):
    """Segmentation by the nearest positions of training images."""

    kind: Literal["knn"]
    datasets: dict[Name, KnnSchedule]

    def schedule(self, dataset: str) -> str:
        """Image size and number of neighbours."""
        schedule = self.datasets[dataset]
        size = "x".join(map(str, schedule.size))
        return f"{schedule.neighbours} nearest positions, images of {size}"


SCHEDULES: dict[str, type[ProbeSchedule]] = {
    "linear-segmentation": LinearSchedule,
    "knn": KnnSchedule,
}

"""Linear SVM: an image's frozen features, classified one class against the rest (VOC 2007).

The defaults are those of DenseCL's release (benchmarks/svm_tools, tools/extract.py), which follow
Goyal et al. 2019, "Scaling and Benchmarking Self-Supervised Visual Representation Learning".
"""

from typing import Annotated, Literal

from pydantic import Field

from cp2.settings.base import Name, PositiveFloat, PositiveInt, Settings, Size
from cp2.settings.metrics import Metric, ProtocolSettings

RELEASED_COSTS = (1.0, 10.0, 100.0, *(0.5**power for power in range(4, 20)))


class SvmSchedule(Settings):
    """What is fixed for one data set.

    Attributes:
        short_side: pixels that an image's short side is resized to first.
        size: what it is then resized to, whatever its shape.
        output_stride: of a ResNet; its last map is the features.
        pool: side of the square that the map is averaged over, at each of its positions.
        costs: of the SVM. The first of the best by cross-validation is taken.
        folds: of the cross-validation.
        positive_weight: weight of the class's own images.
        shots: low-shot: so many images of the class, and so many for each other class as
            negatives. As released, the best cost on the test images counts.
        draws: low-shot: samples that the scores are averaged over.
    """

    short_side: PositiveInt = 256
    size: Size = (224, 224)
    output_stride: Literal[8, 16, 32] = 32
    pool: PositiveInt = 6
    costs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = RELEASED_COSTS
    folds: Annotated[int, Field(ge=2)] = 3
    positive_weight: PositiveFloat = 2.0
    max_iterations: PositiveInt = 2000
    shots: PositiveInt | None = None
    draws: PositiveInt = 5


class SvmSettings(ProtocolSettings):
    """Linear SVMs of frozen features; nothing is finetuned."""

    metrics = (Metric("map", "mAP", "percent"),)
    seeded = False  # solvers and samples draw from a fixed seed

    kind: Literal["svm"]
    datasets: dict[Name, SvmSchedule]

    def schedule(self, dataset: str) -> str:
        """How costs are chosen."""
        schedule = self.datasets[dataset]
        if schedule.shots:
            return f"{schedule.shots} images a class, mean of {schedule.draws} samples"
        return f"cost chosen from {len(schedule.costs)} by {schedule.folds}-fold cross-validation"

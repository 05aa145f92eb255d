"""Segmentation: a model is finetuned with labels and scored pixel by pixel (CP² sec. 4.1)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cp2.settings.base import (
    CropSide,
    GroupSize,
    Name,
    NonNegativeFloat,
    NonNegativeRange,
    PositiveFloat,
    PositiveInt,
    PositiveRange,
    Settings,
    Share,
    Size,
    added,
    check_groups,
)
from cp2.settings.metrics import Metric, ProtocolSettings
from cp2.settings.optimization import Amp, NoDecay, OptimizerSettings, PolySettings, StepSettings

Family = Literal["resnet", "vit"]
Normalization = Literal["imagenet", "legacy"]


class InferenceSettings(Settings):
    """Whole image, or windows of `window` every `stride` pixels whose logits are averaged."""

    mode: Literal["whole", "slide"] = "whole"
    window: Size | None = None
    stride: Size | None = None

    @model_validator(mode="after")
    def _window_for_slide(self) -> "InferenceSettings":
        if self.mode == "slide":
            if self.window is None or self.stride is None:
                raise ValueError("mode slide needs window and stride, both [height, width]")
            if any(s > w for s, w in zip(self.stride, self.window, strict=True)):
                raise ValueError(f"stride {self.stride} leaves gaps between windows {self.window}")
        elif self.window is not None or self.stride is not None:
            raise ValueError("window and stride are for mode slide")
        return self


class FinetuneAugmentation(Settings):
    """Released finetuning pipeline of CP² (mmsegmentation's training transforms).

    `normalization: legacy` subtracts and divides grey levels of 0 to 255 by ImageNet's mean and
    deviation of colours from 0 to 1, as PixCon's configurations for VOC and Cityscapes do.
    """

    crop: tuple[CropSide, CropSide]  # height, width in pixels
    resize: Size  # short and long side that the image is fitted into before the random scale
    scale: PositiveRange = (0.5, 2.0)
    cat_max_ratio: Share = 0.75  # redraw a crop in which one class fills more than this
    flip_probability: Share = 0.5
    brightness: NonNegativeFloat = 32.0  # grey levels of 255
    contrast: NonNegativeRange = (0.5, 1.5)
    saturation: NonNegativeRange = (0.5, 1.5)
    hue: NonNegativeFloat = 18.0  # degrees of 180
    photometric_probability: Share = 0.5
    normalization: Normalization = added("imagenet")

    @model_validator(mode="after")
    def _short_and_long(self) -> "FinetuneAugmentation":
        if self.resize[0] > self.resize[1]:
            raise ValueError(f"resize {list(self.resize)} runs backwards; write [short, long]")
        return self


class AuxiliarySettings(Settings):
    """A second head on the last stage but one, in training only."""

    head: Name
    weight: PositiveFloat = 0.4  # of its loss


class FinetuneOptimizer(Settings):
    """Optimiser of one backbone family; the learning rate comes from the data set's schedule.

    CP² sec. 4.1: weight decay helps a random head and hurts a pretrained one by about 0.2 mIoU.
    """

    kind: Literal["sgd", "adamw"]
    weight_decay_random_head: Annotated[float, Field(ge=0)]
    weight_decay_pretrained_head: Annotated[float, Field(ge=0)]
    no_decay: NoDecay = "none"
    poly: PolySettings | None = None
    step: StepSettings | None = None

    @model_validator(mode="after")
    def _one_schedule(self) -> "FinetuneOptimizer":
        if (self.poly is None) == (self.step is None):
            raise ValueError("needs poly or step, and not both: a rate falls in one way")
        return self


class DatasetSchedule(Settings):
    """What a protocol fixes for one data set.

    `optimizer` stands in for the protocol's, a family at a time; `output_stride` for the
    backbone's. With `align_corners`, maps are enlarged corner on corner, in training and inference.
    """

    augmentation: FinetuneAugmentation
    batch_size: Annotated[int, Field(ge=2)]  # batch norm needs two images
    bn_group_size: GroupSize | None = None  # images normalised together; None: the whole batch
    iterations: PositiveInt
    lr: dict[Family, PositiveFloat]
    optimizer: dict[Family, FinetuneOptimizer] = Field(default_factory=dict)
    output_stride: Literal[8, 16, 32] | None = None
    align_corners: bool = False
    auxiliary: AuxiliarySettings | None = None
    inference: InferenceSettings = InferenceSettings()

    @model_validator(mode="after")
    def _whole_groups(self) -> "DatasetSchedule":
        check_groups(self.batch_size, self.bn_group_size)
        return self


class SegmentationSettings(ProtocolSettings):
    """Segmentation finetuning: schedules by data set, optimisers by backbone family.

    `zero_init_residual` is of ResNets that start from random weights (mmsegmentation's default).
    """

    metrics = (
        Metric("miou", "mIoU", "percent"),
        Metric("accuracy", "pixel accuracy", "percent"),
        Metric("mean_accuracy", "mean class accuracy", "percent"),
    )

    trains_head = True

    kind: Literal["segmentation"]
    amp: Amp = "off"
    label_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    zero_init_residual: bool = False
    optimizer: dict[Family, FinetuneOptimizer]
    datasets: dict[Name, DatasetSchedule]

    def optimizer_of(self, dataset: str) -> dict[Family, FinetuneOptimizer]:
        """The data set's own optimisers over those of the protocol."""
        return self.optimizer | self.datasets[dataset].optimizer

    def schedule(self, dataset: str) -> str:
        """Iterations and batch size."""
        schedule = self.datasets[dataset]
        return f"{schedule.iterations:,} iterations of {schedule.batch_size}"

    @model_validator(mode="after")
    def _min_lr_below_lr(self) -> "SegmentationSettings":
        for dataset, schedule in self.datasets.items():
            for family, lr in schedule.lr.items():
                optimizer = self.optimizer_of(dataset).get(family)
                if optimizer and optimizer.poly and optimizer.poly.min_lr >= lr:
                    raise ValueError(
                        f"min_lr {optimizer.poly.min_lr:g} of optimizer.{family}.poly "
                        f"is not below lr {lr:g} of datasets.{dataset}.lr.{family}: the rate would "
                        "rise during training; lower min_lr (0 is allowed)"
                    )
        return self


class FinetuneOptimization(Settings):
    """Optimiser and schedule of one finetuning run, resolved from the protocol."""

    optimizer: OptimizerSettings
    poly: PolySettings | None
    step: StepSettings | None = added(None)
    batch_size: PositiveInt
    bn_group_size: GroupSize | None = None
    iterations: PositiveInt

"""Recipes: all settings of one stage that can change its numbers."""

from typing import ClassVar

from cp2.settings.base import PositiveFloat, PositiveInt, Settings, added, unhashed
from cp2.settings.campaign import PublishedCheckpoint
from cp2.settings.checkpoints import CheckpointSettings
from cp2.settings.datasets import ClassList, DatasetSettings
from cp2.settings.methods import MethodSettings
from cp2.settings.metrics import Metric
from cp2.settings.models import BackboneSettings, HeadSettings, ViTSettings
from cp2.settings.protocols.segmentation import (
    FinetuneAugmentation,
    FinetuneOptimization,
    InferenceSettings,
    Normalization,
    SegmentationSettings,
)
from cp2.settings.world import WorldSettings


class WorldRecipe(Settings):
    """The demo world's archives."""

    world: WorldSettings


class PublishRecipe(Settings):
    """A pretrained model written in the official MoCo file format into the demo world."""

    published: PublishedCheckpoint


class DatasetRecipe(Settings):
    """A prepared data set."""

    dataset: DatasetSettings
    classes: ClassList | None


class CheckpointRecipe(Settings):
    """A published backbone, and the head where it has one, read into this project's format."""

    checkpoint: CheckpointSettings
    backbone: BackboneSettings
    head: HeadSettings | None


class CacheRecipe(Settings):
    """A decoded copy of a data set's images, shrunk to a short side in pixels."""

    dataset: str
    short_side: PositiveInt


class MasksRecipe(Settings):
    """Attention of a vision transformer on every image of a data set, for masks of kind dino."""

    dataset: str
    checkpoint: str  # key of its run
    backbone: ViTSettings
    magnification: PositiveInt
    blur: PositiveFloat


class PretrainRecipe(Settings):
    """A pretraining; Quick Tuning where the run starts from a checkpoint."""

    method: MethodSettings
    backbone: BackboneSettings
    head: HeadSettings | None  # CP² pretrains it, MoCo v2 has none
    dataset: str
    epochs: PositiveInt
    start: str | None  # key of the checkpoint or pretrain run it starts from; None: random weights


class AuxiliaryRecipe(Settings):
    """A second head on the last stage but one, in training only."""

    head: HeadSettings
    weight: PositiveFloat


class FinetuneRecipe(Settings):
    """A segmentation model trained with labels."""

    backbone: BackboneSettings
    head: HeadSettings
    pretrained_head: bool  # the head's weights come from the pretraining, too
    dataset: str
    classes: PositiveInt
    label_fraction: float
    augmentation: FinetuneAugmentation
    optimization: FinetuneOptimization
    amp: str
    align_corners: bool = added(False)
    auxiliary: AuxiliaryRecipe | None = added(None)


class EvaluateRecipe(Settings):
    """Scores of a finetuned model on a data set's validation split.

    Attributes:
        metrics: what scores.json holds.
        per_class: what its `per_class` holds.
    """

    metrics: ClassVar[tuple[Metric, ...]] = SegmentationSettings.metrics
    per_class: ClassVar[Metric] = Metric("iou", "IoU", "percent")

    dataset: str
    split: str
    resize: tuple[int, int]
    inference: InferenceSettings
    align_corners: bool = added(False)
    normalization: Normalization = added("imagenet")
    pictures: int = unhashed(4, ge=0)


Recipe = (
    WorldRecipe
    | PublishRecipe
    | DatasetRecipe
    | CheckpointRecipe
    | CacheRecipe
    | MasksRecipe
    | PretrainRecipe
    | FinetuneRecipe
    | EvaluateRecipe
)

"""Recipes: all settings of one stage that can change its numbers."""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny

from cp2.settings.base import PositiveFloat, PositiveInt, Settings, added
from cp2.settings.campaign import PublishedCheckpoint, WorldSettings
from cp2.settings.checkpoints import CheckpointSettings
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.datasets import ClassList, DatasetSettings
from cp2.settings.methods import MethodSettings
from cp2.settings.metrics import Metric
from cp2.settings.models import BackboneSettings, HeadSettings, ViTSettings


class WorldRecipe(Settings):
    """A part of the demo world: its archives."""

    world: WorldSettings
    part: str = added("scenes")


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


def _checked(value: Any) -> Any:
    if isinstance(value, PretrainingSettings):
        return value
    raise ValueError("a method of another package is checked by the package's class alone")


_INSTANCE = BeforeValidator(_checked)


class PretrainRecipe(Settings):
    """A pretraining; Quick Tuning where the run starts from a checkpoint."""

    method: SerializeAsAny[MethodSettings | Annotated[PretrainingSettings, _INSTANCE]]
    backbone: BackboneSettings
    head: HeadSettings | None  # CP² pretrains it, MoCo v2 has none
    dataset: str
    epochs: PositiveInt
    start: str | None  # key of the checkpoint or pretrain run it starts from; None: random weights


class FinetuneRecipe(Settings):
    """A model trained with labels; what else it says is in its protocol's subclass.

    Attributes:
        protocol: kind of the protocol, whose runner trains it.
        runner: the runner's module; "": `cp2/protocols/<kind>.py`.
    """

    runner: ClassVar[str] = ""

    protocol: str
    dataset: str


class EvaluateRecipe(Settings):
    """Scores of a model on one split; what else it says is in its protocol's subclass.

    Attributes:
        metrics: what scores.json holds.
        per_class: what its `per_class` holds, if it has one.
        protocol: kind of the protocol, whose runner scores it.
        runner: the runner's module; "": `cp2/protocols/<kind>.py`.
    """

    metrics: ClassVar[tuple[Metric, ...]]
    per_class: ClassVar[Metric | None] = None
    runner: ClassVar[str] = ""

    protocol: str
    dataset: str
    split: str


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

"""What pretraining methods can be set to: all of them, MoCo v2, and MoCo v2+."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from cp2.settings.base import (
    GroupSize,
    Name,
    PositiveFloat,
    PositiveInt,
    Settings,
    Share,
    added,
    check_groups,
    unhashed,
)
from cp2.settings.optimization import Amp, CosineSettings, OptimizerSettings
from cp2.settings.views import ReadingSettings, ViewSettings

HeadInit = Literal["kaiming", "pytorch"]


class PretrainingSettings(Settings):
    """What every method can be set to.

    Attributes:
        pretrains_head: whether the segmentation head of a table is pretrained along.
        module: what makes the method; "": `cp2/methods/<kind>.py`.
    """

    pretrains_head: ClassVar[bool] = False
    module: ClassVar[str] = ""

    kind: str
    name: Name
    title: str = unhashed()
    note: str = unhashed("")  # what a reader of the tables has to know; printed below them
    views: ViewSettings = ViewSettings()
    reading: ReadingSettings = ReadingSettings()
    batch_size: Annotated[int, Field(ge=2)] = 256  # batch norm needs two images
    dim: PositiveInt = 128
    bn_group_size: GroupSize | None = None  # images normalised together; None: the whole batch
    zero_init_residual: bool = False
    # kaiming-normal of a ResNet's convolutions from random weights; fan-in: OpenSelfSup (DenseCL).
    conv_init: Literal["fan-out", "fan-in"] = added("fan-out")
    output_stride: Literal[8, 16, 32] | None = added(None)  # of a ResNet in pretraining
    amp: Amp = "off"
    # Fused kernels round otherwise, so this is hashed, as amp is. Where it does not work: a note.
    compile: bool = added(False)
    optimizer: dict[Literal["resnet", "vit"], OptimizerSettings]
    schedule: CosineSettings = CosineSettings()

    @model_validator(mode="after")
    def _whole_groups(self) -> "PretrainingSettings":
        check_groups(self.batch_size, self.bn_group_size)
        return self

    @model_validator(mode="after")
    def _falling_rate(self) -> "PretrainingSettings":
        for family, optimizer in self.optimizer.items():
            if self.schedule.min_lr > optimizer.lr:
                raise ValueError(
                    f"schedule.min_lr {self.schedule.min_lr:g} is more than lr {optimizer.lr:g} of "
                    f"optimizer.{family}, so that the rate would rise; write {optimizer.lr:g} or "
                    "less (0 is allowed)"
                )
        return self

    def for_batch(self, positions: int) -> dict[str, Any]:
        """What has to be set otherwise for a batch whose views have so many positions in all."""
        return {}

    def misfit(self, stride: int, micro_batches: int) -> str | None:
        """Why a step cannot be made so; None where it can.

        Args:
            stride: of the backbone's map in pretraining.
            micro_batches: parts of a process' share of the batch.
        """
        return None


class ContrastiveSettings(PretrainingSettings):
    """Methods with a momentum encoder, whose keys queue up as negatives."""

    momentum: Share = 0.999  # of the key encoder
    queue_size: PositiveInt = 65536
    temperature: PositiveFloat = 0.2
    key_bn: Literal["shuffle", "sync", "none"] = "shuffle"

    @property
    def unread(self) -> tuple[str, ...]:
        """Options that have no effect on the method."""
        return ()


class PlusSettings(ContrastiveSettings):
    """What PixCon's MoCo v2+ adds to MoCo v2, each part by itself (supplement, Table 4)."""

    symmetric: bool = False  # either view is the query once and the key once
    view_losses: Literal["sum", "mean"] = added("sum")  # of both views, if symmetric
    queue_view: Literal["random", "both", "key"] = "random"  # whose keys join, if symmetric
    predictor: bool = False  # an MLP behind the query encoder's projections
    predictor_width: PositiveInt = 2048
    projector_norm: bool = False  # batch norm in the projections' hidden layer
    momentum_end: Share | None = None  # reached by a cosine over the run; None: constant

    @model_validator(mode="after")
    def _one_group_of_both_views(self) -> "PlusSettings":
        # Else running statistics would move once or twice a step, by the number of processes.
        if self.symmetric and (self.bn_group_size or self.batch_size) < self.batch_size:
            raise ValueError(
                f"symmetric: true normalises either view over the whole batch of "
                f"{self.batch_size}, but bn_group_size is {self.bn_group_size}; write "
                "bn_group_size: null and key_bn: none, or symmetric: false"
            )
        return self

    @model_validator(mode="after")
    def _rising_momentum(self) -> "PlusSettings":
        if self.momentum_end is not None and self.momentum_end < self.momentum:
            raise ValueError(
                f"momentum_end {self.momentum_end:g} is less than momentum {self.momentum:g}; the "
                "momentum rises from the one to the other, or leave momentum_end out"
            )
        return self

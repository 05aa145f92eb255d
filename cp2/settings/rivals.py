"""Methods that DenseCL and PixCon compare themselves with: BYOL, SimCLR, PixPro, SlotCon."""

from typing import Any, Literal

from pydantic import model_validator

from cp2.settings.base import BelowOne, PositiveFloat, PositiveInt
from cp2.settings.contrastive import HeadInit, PlusSettings, PretrainingSettings

QUEUE = ("queue_size", "queue_view", "temperature")


class TeacherSettings(PlusSettings):
    """Methods with a momentum encoder whose parts are fixed."""

    @property
    def unread(self) -> tuple[str, ...]:
        """Of MoCo v2+'s."""
        return (*QUEUE, "predictor", "projector_norm")

    @model_validator(mode="after")
    def _only_what_is_read(self) -> "TeacherSettings":
        fields = type(self).model_fields
        changed = [name for name in self.unread if getattr(self, name) != fields[name].default]
        if changed:
            raise ValueError(
                f"{changed[0]} has no effect on a method of kind {self.kind} with these options; "
                "leave it out"
            )
        return self


class ByolSettings(TeacherSettings):
    """BYOL: each view predicts the other's projection."""

    kind: Literal["byol"]
    projector_width: PositiveInt = 4096
    # Linear layers: PyTorch's (mmselfsup); kaiming: OpenSelfSup's, with the predictor at N(0, .01).
    head_init: HeadInit = "pytorch"


class SimClrSettings(PretrainingSettings):
    """SimCLR: one network; all other views of the batch are negatives."""

    kind: Literal["simclr"]
    temperature: PositiveFloat = 0.1

    def misfit(self, stride: int, micro_batches: int) -> str | None:
        """Each view is told from all others of the batch."""
        if micro_batches == 1:
            return None
        return (
            f"each view is told from all others of the batch, which {micro_batches} micro-batches "
            "do not hold; leave --accumulate and execution.accumulate.pretrain out, or use more "
            "processes"
        )

    @model_validator(mode="after")
    def _one_group(self) -> "SimClrSettings":
        if (self.bn_group_size or self.batch_size) < self.batch_size:
            raise ValueError(
                f"both views of the whole batch of {self.batch_size} are normalised together, but "
                f"bn_group_size is {self.bn_group_size}; write bn_group_size: null"
            )
        return self


class PixProSettings(TeacherSettings):
    """PixPro: propagated positions are pulled to those near them in the other view."""

    kind: Literal["pixpro"]
    projector_width: PositiveInt = 4096
    sharpness: PositiveFloat = 2.0  # gamma, of similarities within a view
    positive_radius: PositiveFloat = 0.7  # in diagonals of the larger view's position
    instance_branch: bool = False  # BYOL of whole views beside it
    instance_weight: PositiveFloat = 1.0

    @property
    def unread(self) -> tuple[str, ...]:
        """Of MoCo v2+'s, and what the instance branch alone reads."""
        return (*super().unread, *(() if self.instance_branch else ("instance_weight",)))


class SlotConSettings(TeacherSettings):
    """SlotCon: positions are grouped by prototypes alike in both views, and groups told apart.

    matching: which positions should be grouped alike: those at the same place (coord, released),
    those most similar to the backbone (sim), or both, each with half the weight. `reweighting`
    weights the similar ones as PixCon-SR does. Branches of their own compare whole views
    (MoCo v2+'s loss) and positions (PixCon-Sim's) against queues (PixCon, supplement A.4).
    """

    kind: Literal["slotcon"]
    prototypes: PositiveInt = 256
    projector_width: PositiveInt = 4096
    student_temperature: PositiveFloat = 0.1
    teacher_temperature: PositiveFloat = 0.07  # also of the slots of both
    slot_temperature: PositiveFloat = 0.2
    centre_momentum: BelowOne = 0.9
    matching: Literal["coord", "sim", "both"] = "coord"
    reweighting: bool = False
    image_branch: bool = False
    pixel_branch: bool = False
    branch_dim: PositiveInt = 128

    @property
    def unread(self) -> tuple[str, ...]:
        """Of MoCo v2+'s."""
        queues = () if self.image_branch or self.pixel_branch else (*QUEUE, "branch_dim")
        return (*queues, "predictor", "projector_norm")

    def for_batch(self, positions: int) -> dict[str, Any]:
        """No more prototypes than positions."""
        return {"prototypes": min(self.prototypes, positions)}

    def misfit(self, stride: int, micro_batches: int) -> str | None:
        """Slots of the whole batch are told apart, and some of it must fall to each prototype."""
        size = self.views.crop_size
        side = -(-size // stride)
        if self.prototypes > self.batch_size * side**2:
            return (
                f"{self.prototypes} prototypes are more than the {self.batch_size * side**2} "
                f"positions of a batch ({self.batch_size} views of {side} x {side}, crop_size "
                f"{size}, output stride {stride}); write fewer prototypes or a larger batch_size"
            )
        if micro_batches == 1:
            return None
        return (
            f"slots of the whole batch are told apart, which {micro_batches} micro-batches do not "
            "hold; leave --accumulate and execution.accumulate.pretrain out, or use more processes"
        )

    @model_validator(mode="after")
    def _weights_of_similar_ones(self) -> "SlotConSettings":
        if self.reweighting and self.matching == "coord":
            raise ValueError(
                "reweighting weights positions by their similarity, but matching is coord; write "
                "matching: both or sim, or leave reweighting out"
            )
        return self

"""Pretraining methods: what is optimised, and how images become views."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cp2.settings.base import NonNegativeFloat, PositiveFloat, PositiveInt, added
from cp2.settings.contrastive import (
    ContrastiveSettings,
    HeadInit,
    PlusSettings,
    PretrainingSettings,
)
from cp2.settings.dense import DenseClSettings, PixConSettings
from cp2.settings.masks import MaskSettings, RectangleMaskSettings
from cp2.settings.rivals import (
    ByolSettings,
    PixProSettings,
    SimClrSettings,
    SlotConSettings,
)


class MoCoV2Settings(ContrastiveSettings):
    """MoCo v2: one global vector a view from a two-layer MLP on pooled backbone features."""

    kind: Literal["moco-v2"]
    head_init: HeadInit = added("pytorch")  # of the MLP's Linear layers; kaiming: OpenSelfSup's


class PlainSettings(PlusSettings):
    """Methods without options of their own, each in `cp2/methods/<kind>.py`."""

    kind: Literal["moco-v2-plus"]
    projector_layers: Literal[2, 3] = added(2)
    projector_width: PositiveInt | None = added(None)  # None: the backbone's


class CopyPasteSettings(PretrainingSettings):
    """Methods whose views are pasted onto other images (CP² Eq. 1)."""

    mask: MaskSettings = RectangleMaskSettings()
    background: Literal["permutation", "batch"] = "permutation"  # batch: decoded once a sample

    @property
    def pastes(self) -> bool:
        """Whether there are backgrounds; with masks of kind full all of a view is foreground."""
        return self.mask.kind != "full"

    def misfit(self, stride: int, micro_batches: int) -> str | None:
        """Masks are sampled at the positions of the feature map."""
        size = self.views.crop_size
        if size % stride == 0:
            return None
        return (
            f"views.crop_size {size} is no multiple of {stride}, the output stride of the "
            "backbone; masks are sampled once a position"
        )

    @model_validator(mode="after")
    def _two_other_images(self) -> "CopyPasteSettings":
        if self.pastes and self.background == "batch" and self.batch_size < 3:
            raise ValueError(
                f"background: batch takes two other images of the batch, but batch_size is "
                f"{self.batch_size}; write 3 or more, or background: permutation"
            )
        return self

    @model_validator(mode="after")
    def _whole_patches(self) -> "CopyPasteSettings":
        if self.mask.kind == "patches" and self.views.crop_size % self.mask.patch:
            raise ValueError(
                f"mask.patch {self.mask.patch} does not divide views.crop_size "
                f"{self.views.crop_size}; choose a patch that does"
            )
        return self


class Cp2Settings(CopyPasteSettings, ContrastiveSettings):
    """CP²: instance loss on masked averages plus dense loss between composed images."""

    pretrains_head = True

    kind: Literal["cp2"]
    instance_weight: NonNegativeFloat = 1.0  # 0: dense loss only (appendix, loss ablation)
    dense_weight: NonNegativeFloat = 0.2  # alpha of Eq. 5
    dense_temperature: PositiveFloat = 1.0
    dense_softmax_axis: Literal["key", "query"] = "key"  # key: the paper's Eq. 2; query: the code
    projection_hidden_layers: Literal[1, 2] = 1

    @model_validator(mode="after")
    def _some_loss(self) -> "Cp2Settings":
        if self.instance_weight == self.dense_weight == 0:
            raise ValueError(
                "instance_weight and dense_weight are both 0; nothing is left to learn"
            )
        return self

    @model_validator(mode="after")
    def _background_for_the_dense_loss(self) -> "Cp2Settings":
        if self.mask.kind == "full" and self.dense_weight > 0:
            raise ValueError(
                f"mask.kind full leaves no background, which the dense loss (dense_weight "
                f"{self.dense_weight:g}) tells apart; write dense_weight: 0 (CP² Table 4) or "
                "another mask"
            )
        return self


MethodSettings = Annotated[
    MoCoV2Settings
    | Cp2Settings
    | PlainSettings
    | DenseClSettings
    | PixConSettings
    | ByolSettings
    | SimClrSettings
    | PixProSettings
    | SlotConSettings,
    Field(discriminator="kind"),
]

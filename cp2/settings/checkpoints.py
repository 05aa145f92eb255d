"""Published model files: where they come from, how they are laid out, what their network does."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cp2.settings.base import Name, PositiveInt, Settings, added, unhashed
from cp2.settings.datasets import Archive
from cp2.settings.models import InputScale, Padding

Layout = Literal[
    "moco", "torchvision", "timm", "prefixed", "cp2", "simclr", "haiku-pickle", "haiku-numpy", "own"
]
WITH_HEAD = ("cp2", "own")
NOT_TORCH = ("simclr", "haiku-pickle", "haiku-numpy", "own")  # files of other containers


class StandIn(Settings):
    """A pretraining of our own in the place of a file that was never published."""

    method: Name
    epochs: PositiveInt  # as published


class CheckpointSettings(Settings):
    """A published model file.

    `layout` says container and names:
    - moco: torch.save; encoder_q.* or base_encoder.* (MoCo v1 to v3);
    - torchvision, timm: torch.save; flat names, fc.* or head.* left out;
    - prefixed: torch.save; the names that begin with `prefix` (PyContrast, PixPro, mmdetection),
      which may begin with the container: `teacher.backbone.` of DINO's training;
    - cp2: torch.save; the authors' files, whose segmentation head is read as `head`;
    - simclr: a zip archive with a TensorFlow checkpoint;
    - haiku-pickle, haiku-numpy: pickle or .npy with a Haiku ResNet (BYOL, DetCon);
    - own: model.safetensors of a pretraining that this project made elsewhere.

    Where torch.save is said, a safetensors file is read, too. What DDP, torch.compile, FSDP and
    DeepSpeed put into names (`module.`, `_orig_mod.`) is not seen, and a ResNet's parts may be
    numbered as nn.Sequential numbers them (lightly). Names that begin with one of `drop`, below the
    prefix, are left out: `drop: [decoder_, mask_token]` for MAE.

    `padding` and `input` are what the network was trained with and cannot be seen from shapes, see
    `ResNetSettings`. `attention_heads` cannot be seen either; a vision transformer must state it.
    """

    name: Name
    title: str = unhashed()
    archive: Archive
    layout: Layout
    prefix: str | None = None
    drop: tuple[Annotated[str, Field(min_length=1)], ...] = added(())
    backbone: Name
    head: Name | None = None
    attention_heads: PositiveInt | None = None
    padding: Padding = "symmetric"
    input: InputScale = "imagenet"
    licence: str = unhashed("")
    stand_in: StandIn | None = unhashed(None)  # used where the campaign has `stand_ins: true`
    note: str = unhashed("")  # what a reader of the tables has to know; printed below them

    @model_validator(mode="after")
    def _fits_layout(self) -> "CheckpointSettings":
        if (self.layout == "prefixed") != (self.prefix is not None):
            raise ValueError("prefix belongs to layout prefixed, and that needs one")
        if self.head is not None and self.layout not in WITH_HEAD:
            raise ValueError(f"head is for layouts {' and '.join(WITH_HEAD)}; others hold none")
        if self.drop and self.layout in (*NOT_TORCH, "cp2"):
            raise ValueError(f"drop is for files of torch.save; layout {self.layout} needs none")
        return self

"""The demo world: how many scenes are drawn, and how large."""

from typing import Annotated

from pydantic import Field

from cp2.settings.base import PositiveInt, Settings


class WorldSettings(Settings):
    """Numbers of images; `short_side` is in pixels."""

    seed: Annotated[int, Field(ge=0)] = 0
    short_side: Annotated[int, Field(ge=48, le=512)] = 96
    voc_train: PositiveInt = 48
    sbd_extra: PositiveInt = 24  # training images that only SBD labels
    voc_val: PositiveInt = 24
    cityscapes_train: PositiveInt = 48
    cityscapes_val: PositiveInt = 16
    ade20k_train: PositiveInt = 48
    ade20k_val: PositiveInt = 16
    imagenet_classes: Annotated[int, Field(ge=1, le=8)] = 8
    imagenet_per_class: PositiveInt = 48

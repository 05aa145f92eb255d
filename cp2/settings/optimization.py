"""Optimisers and learning-rate schedules."""

from typing import Annotated, Literal

from pydantic import Field

from cp2.settings.base import NonNegativeFloat, PositiveFloat, Settings, Share


class SgdSettings(Settings):
    kind: Literal["sgd"]
    lr: PositiveFloat
    momentum: Share = 0.9
    weight_decay: NonNegativeFloat


class AdamWSettings(Settings):
    kind: Literal["adamw"]
    lr: PositiveFloat
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: NonNegativeFloat
    no_decay: Literal["none", "norm-pos-cls"] = "none"  # parameters freed from weight decay


OptimizerSettings = Annotated[SgdSettings | AdamWSettings, Field(discriminator="kind")]


class CosineSettings(Settings):
    """lr = lr0 (1 + cos(pi t)) / 2 with t by whole epochs (MoCo, CP²) or by step."""

    by: Literal["epoch", "step"] = "epoch"
    warmup_epochs: NonNegativeFloat = 0.0


class PolySettings(Settings):
    """lr = (lr0 - min_lr) (1 - t)^power + min_lr by iteration, after a linear warm-up."""

    power: PositiveFloat = 0.9
    min_lr: NonNegativeFloat = 1e-4
    warmup_iterations: Annotated[int, Field(ge=0)] = 0
    warmup_ratio: PositiveFloat = 1e-6

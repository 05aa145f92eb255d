"""Optimisers and learning-rate schedules."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from cp2.settings.base import BelowOne, NonNegativeFloat, PositiveFloat, Settings, Share, added


def _rising(shares: tuple[float, ...]) -> tuple[float, ...]:
    if list(shares) != sorted(set(shares)):
        raise ValueError(f"must rise: {list(shares)}; write each share of the run once, in order")
    return shares


# Mixed precision; off: float32 (TF32 in networks on GPUs that have it), ieee: float32 throughout.
Amp = Literal["off", "bf16", "fp16", "ieee"]

# Parameters freed from weight decay. norm-pos-cls: all vectors (norms, and biases), the position
# embedding and the class token. mmsegmentation: its custom keys, which are names that hold "norm",
# the position embedding and the class token; biases and norms named otherwise (a head's) decay.
NoDecay = Literal["none", "norm-pos-cls", "mmsegmentation"]


class SgdSettings(Settings):
    kind: Literal["sgd"]
    lr: PositiveFloat
    momentum: Share = 0.9
    weight_decay: NonNegativeFloat
    no_decay: Literal["none", "norm"] = added("none")  # norm: batch norms' weights and biases


class AdamWSettings(Settings):
    kind: Literal["adamw"]
    lr: PositiveFloat
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    weight_decay: NonNegativeFloat
    no_decay: NoDecay = "none"


class LarsSettings(Settings):
    """SGD with a rate for each tensor; what is no matrix neither decays nor is scaled.

    `form`: as SlotCon and PixPro released it, or as OpenSelfSup did (DenseCL's rows of BYOL and
    SimCLR), where the norms of a shortcut's batch norm do decay and are scaled.
    """

    kind: Literal["lars"]
    form: Literal["released", "openselfsup"] = "released"
    lr: PositiveFloat
    momentum: Share = 0.9
    weight_decay: NonNegativeFloat
    trust: PositiveFloat = 0.001

    @property
    def no_decay(self) -> str:
        """What `build_optimizer` exempts."""
        return f"lars-{self.form}"


OptimizerSettings = Annotated[
    SgdSettings | AdamWSettings | LarsSettings, Field(discriminator="kind")
]


class CosineSettings(Settings):
    """lr = min_lr + (lr0 - min_lr) (1 + cos(pi t)) / 2, after a linear warm-up.

    t is the share of the run that is done, by whole epochs (MoCo, CP²) or by step; with
    `after_warmup` the share of what follows the warm-up (SlotCon, PixPro).
    """

    by: Literal["epoch", "step"] = "epoch"
    warmup_epochs: NonNegativeFloat = 0.0
    warmup_ratio: Share = added(0.0)  # of lr0, where the warm-up starts
    after_warmup: bool = added(False)
    min_lr: NonNegativeFloat = added(0.0)


class PolySettings(Settings):
    """lr = (lr0 - min_lr) (1 - t)^power + min_lr by iteration, after a linear warm-up."""

    power: PositiveFloat = 0.9
    min_lr: NonNegativeFloat = 1e-4
    warmup_iterations: Annotated[int, Field(ge=0)] = 0
    warmup_ratio: PositiveFloat = 1e-6


class StepSettings(Settings):
    """lr = lr0 * factor^k after k milestones, which are shares of all iterations.

    Before, it rises linearly from `warmup_ratio` of lr0 for so many iterations.
    """

    milestones: Annotated[tuple[Share, ...], Field(min_length=1), AfterValidator(_rising)]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    warmup_iterations: int = added(0, ge=0)
    warmup_ratio: float = added(0.001, gt=0, le=1)

"""Methods that contrast positions of two views' feature maps: DenseCL and PixCon."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cp2.settings.base import PositiveFloat, PositiveInt, Share, added
from cp2.settings.contrastive import HeadInit, PlusSettings


class DenseSettings(PlusSettings):
    """(1 - lambda) x loss of whole views + lambda x loss of their positions."""

    loss_lambda: Share = 0.5
    lambda_warmup_steps: Annotated[int, Field(ge=0)] = 0  # lambda is 0 until then
    # What of an image joins the dense queue: the mean of its positions, or one that is drawn.
    dense_queue: Literal["mean", "cell"] = added("mean")
    # Linear layers of the projections: kaiming-normal, fan in (DenseCL), or PyTorch's (PixCon).
    head_init: HeadInit = added("kaiming")
    grid: PositiveInt | None = None  # side that the map is pooled to; None: its own

    def misfit(self, stride: int, micro_batches: int) -> str | None:
        """A grid that is larger than the map cannot be pooled from it."""
        size = self.views.crop_size
        side = -(-size // stride)
        if self.grid is None or self.grid <= side:
            return None
        return (
            f"grid {self.grid} is larger than the backbone's map, which has {side} x {side} "
            f"positions (views.crop_size {size}, output stride {stride}), so that positions would "
            f"be repeated; write {side} or less, or grid: null for the map as it is"
        )


class DenseClSettings(DenseSettings):
    """DenseCL: each position is pulled to one position of the other view."""

    kind: Literal["densecl"]
    matching: Literal["max-sim-backbone", "max-sim-projection", "random"] = "max-sim-backbone"


class PixConSettings(DenseSettings):
    """PixCon: DenseCL's losses in MoCo v2+'s step.

    sim: DenseCL's matches. coord: the nearest position in the image, where there is one within
    `coord_radius`. sr: DenseCL's matches, weighted by 1 in the views' overlap (`overlap_rule`) and
    by a power of their similarity elsewhere.
    """

    kind: Literal["pixcon"]
    variant: Literal["sim", "coord", "sr"] = "sr"
    sr_power: PositiveFloat = 2.0
    overlap_rule: bool = True
    # Edges of the overlap, in positions: cut off (release), or taken to the nearest whole one.
    overlap_edges: Literal["floor", "round"] = added("floor")
    coord_radius: PositiveFloat = 0.7  # in diagonals of the larger view's position (PixPro's)

    def misfit(self, stride: int, micro_batches: int) -> str | None:
        """Weights are divided by their sum over the whole batch, which a part does not know."""
        if micro_batches == 1 or self.variant == "sim":
            return super().misfit(stride, micro_batches)
        return (
            f"variant {self.variant} divides by a sum of weights over the whole batch, which "
            f"{micro_batches} micro-batches do not know; leave --accumulate and "
            "execution.accumulate.pretrain out, or use more processes"
        )

    @model_validator(mode="after")
    def _options_of_the_variant(self) -> "PixConSettings":
        own = {
            "sr": {"sr_power", "overlap_rule", "overlap_edges"},
            "coord": {"coord_radius"},
            "sim": set[str](),
        }
        foreign = set.union(*own.values()) - own[self.variant]
        changed = sorted(
            name for name in foreign if getattr(self, name) != type(self).model_fields[name].default
        )
        if changed:
            owner = next(variant for variant, names in own.items() if changed[0] in names)
            raise ValueError(
                f"{changed[0]} is read by variant {owner} only, but variant is {self.variant}; "
                f"leave it out or write variant: {owner}"
            )
        return self

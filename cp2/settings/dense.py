"""Methods that contrast cells of two views with each other: DenseCL and PixCon."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cp2.settings.base import PositiveFloat, PositiveInt, Share, added
from cp2.settings.contrastive import PlusSettings


class DenseSettings(PlusSettings):
    """(1 - lambda) x loss of whole views + lambda x loss of their cells."""

    loss_lambda: Share = 0.5
    lambda_warmup_steps: Annotated[int, Field(ge=0)] = 0  # lambda is 0 until then
    # What of an image joins the dense queue: the mean of its cells, or one that is drawn.
    dense_queue: Literal["mean", "cell"] = added("mean")
    grid: PositiveInt | None = None  # cells a side, pooled from the backbone's map; None: its own

    def grid_misfit(self, stride: int) -> str | None:
        """Why a backbone of this output stride cannot have the grid; None where it can."""
        size = self.views.crop_size
        cells = -(-size // stride)
        if self.grid is None or self.grid <= cells:
            return None
        return (
            f"method {self.name!r}: grid {self.grid} is larger than the backbone's map, which has "
            f"{cells} x {cells} cells (views.crop_size {size}, output stride {stride}), so that "
            f"cells would be repeated; write {cells} or less, or grid: null for the map as it is"
        )


class DenseClSettings(DenseSettings):
    """DenseCL: each cell is pulled to one cell of the other view."""

    kind: Literal["densecl"]
    matching: Literal["max-sim-backbone", "max-sim-projection", "random"] = "max-sim-backbone"


class PixConSettings(DenseSettings):
    """PixCon: DenseCL's losses on MoCo v2+'s footing.

    sim: DenseCL's matches. coord: the nearest cell in the photograph, where there is one within
    `coord_radius`. sr: DenseCL's matches, weighted by 1 in the views' overlap (`overlap_rule`) and
    by a power of their similarity elsewhere.
    """

    kind: Literal["pixcon"]
    variant: Literal["sim", "coord", "sr"] = "sr"
    sr_power: PositiveFloat = 2.0
    overlap_rule: bool = True
    # Edges of the overlap, in cells: cut off (release), or taken to the nearest whole one.
    overlap_edges: Literal["floor", "round"] = added("floor")
    coord_radius: PositiveFloat = 0.7  # in diagonals of the larger view's cell (PixPro's)

    def micro_batch_misfit(self, count: int) -> str | None:
        """Why a step cannot be made in so many micro-batches; None where it can."""
        if count == 1 or self.variant == "sim":
            return None
        return (
            f"method {self.name!r} (variant {self.variant}) divides by a sum of weights over the "
            f"whole batch, which {count} micro-batches do not know; leave --accumulate and "
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

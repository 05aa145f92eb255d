"""Throughput tables: samples a second of each kind of work on a device; what costs rest on."""

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field

from cp2.settings.base import Name, PositiveFloat, PositiveInt, Settings, Size
from cp2.settings.optimization import Amp
from cp2.stages import ON_DEVICE

if TYPE_CHECKING:
    OnDevice: TypeAlias = str
else:
    OnDevice = Literal[ON_DEVICE]
Certainty = Literal["measured", "published", "estimated"]


class ThroughputRow(Settings):
    """Samples a second of one device; names are those of configs/.

    A sample is an image of a batch (pretraining: both its views). `crop_size` is the side of a
    square crop or [height, width] in pixels; for evaluate it is the protocol's `resize`, the short
    and the long side that images are fitted into; for masks, the square that the ViT sees. A `head`
    of None is for runs without one.
    """

    stage: OnDevice
    method: Name | None = None  # of a pretraining
    backbone: Name
    head: Name | None = None
    crop_size: PositiveInt | Size
    batch_size: PositiveInt | None = None
    amp: Amp = "off"
    slide: bool = False  # evaluation in windows
    output_stride: Literal[8, 16, 32] = 16
    symmetric: bool = False  # a pretraining whose loss takes both directions
    auxiliary: Name | None = None  # second head of a finetuning
    gflop: PositiveFloat | None = None  # of a sample; other work of the stage is estimated by it
    device: Annotated[str, Field(min_length=1)]
    samples_per_second: PositiveFloat  # of one device
    certainty: Certainty = "measured"
    source: Annotated[str, Field(min_length=1)]  # what it was read from, or computed by


class FlopRate(Settings):
    """Floating point operations a second at which one device is put for work without a row."""

    device: Annotated[str, Field(min_length=1)]
    amp: tuple[Amp, ...] = ("off",)  # precisions that it holds for
    gflops: PositiveFloat  # GFLOP a second of one device
    source: Annotated[str, Field(min_length=1)]


class ThroughputTable(Settings):
    """A file's rows; `note` is printed with costs that rest on rows that are not measured."""

    note: str = ""
    throughput: Annotated[tuple[ThroughputRow, ...], Field(min_length=1)]
    flop_rates: tuple[FlopRate, ...] = ()
    memory_gb: dict[str, PositiveFloat] = Field(default_factory=dict)  # of one device, by its name

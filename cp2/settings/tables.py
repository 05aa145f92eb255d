"""Tables: which runs a published table or figure is made of."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cp2.settings.base import FileName, Name, PositiveInt, Settings, unhashed


class Pretraining(Settings):
    """One pretraining: a method for some epochs, from random weights, a checkpoint or a run."""

    method: Name
    epochs: PositiveInt  # as published; a campaign of another scale maps it
    dataset: Name = "imagenet"
    checkpoint: Name | None = None  # set: Quick Tuning of a published backbone
    start: "Pretraining | None" = None  # set: Quick Tuning of a pretraining of our own
    settings: dict[str, Any] = Field(default_factory=dict)  # changes to the method's settings

    @model_validator(mode="after")
    def _one_start(self) -> "Pretraining":
        if self.checkpoint and self.start:
            raise ValueError("has both checkpoint and start; a pretraining starts from one thing")
        return self


class Row(Settings):
    """One row: a backbone and how it came to its weights (neither: random initialisation)."""

    name: str
    backbone: Name
    checkpoint: Name | None = None
    pretrain: Pretraining | None = None
    head_init: Literal["pretrained", "random"] = "pretrained"  # where the pretraining has a head
    extra: bool = False  # not in the published table
    at: dict[str, float] = Field(default_factory=dict)  # coordinates that the figure draws
    missing: str | None = None  # why this row cannot be made yet

    @model_validator(mode="after")
    def _one_origin(self) -> "Row":
        if self.checkpoint and self.pretrain:
            raise ValueError(
                f"row {self.name!r} has both checkpoint and pretrain; for Quick Tuning write the "
                "checkpoint inside pretrain"
            )
        return self


class Column(Settings):
    """One column: a data set and what is measured on it.

    `seconds_per_epoch` is of pretraining, on `dataset`. A column that says why it is `missing` may
    name a metric that nothing measures yet; its data set needs no file.
    """

    name: str
    dataset: Name
    protocol: Name | None = None  # None: the table's
    metric: str | None = None  # None: the protocol's first
    label_fraction: Annotated[float, Field(gt=0, le=1)] | None = None  # None: as in the protocol
    head: Name | None = None  # None: the table's
    missing: str | None = None  # why none of its cells can be made yet


class BarsSettings(Settings):
    """A bar a row, grouped by column."""

    kind: Literal["bars"]


class CurveSettings(Settings):
    """A point a row at the coordinate `x`."""

    kind: Literal["curve"]
    x: str


class HeatMapSettings(Settings):
    """A square a row at the coordinates `x` and `y`."""

    kind: Literal["heatmap"]
    x: str
    y: str


FigureSettings = Annotated[
    BarsSettings | CurveSettings | HeatMapSettings, Field(discriminator="kind")
]


class TableSettings(Settings):
    """Rows x columns; every cell is a set of runs, one a seed.

    `trials` asks for that many independent runs of the whole row, pretraining and finetuning with
    seed 0, 1, ..., instead of the campaign's seeds.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title: str
    source: str  # paper and table number
    published: FileName | None = None  # stem of a CSV in reports/published/
    protocol: Name
    head: Name | None = None  # that protocols train and CP² pretrains, where they need one
    trials: PositiveInt | None = None
    figure: FigureSettings | None = None
    columns: tuple[Column, ...] = Field(min_length=1)
    rows: tuple[Row, ...] = Field(min_length=1)
    released: bool = unhashed(False)  # rows start from weights that the authors gave out
    note: str = unhashed("")

    @model_validator(mode="after")
    def _unique_names(self) -> "TableSettings":
        for kind, names in (
            ("row", [r.name for r in self.rows]),
            ("column", [c.name for c in self.columns]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{kind} {twice[0]!r} is there twice; names must differ")
        return self

    @model_validator(mode="after")
    def _coordinates_of_the_figure(self) -> "TableSettings":
        for row in self.rows:
            for axis in self.axes:
                if axis not in row.at:
                    raise ValueError(
                        f"figure draws {axis!r}, but row {row.name!r} has no at.{axis}"
                    )
        return self

    @property
    def axes(self) -> tuple[str, ...]:
        """Coordinates that the figure draws along."""
        match self.figure:
            case CurveSettings(x=x):
                return (x,)
            case HeatMapSettings(x=x, y=y):
                return (x, y)
        return ()

"""Foreground masks of CP²: which part of a composed image is foreground (CP² sec. 4.4, Table 4)."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from cp2.settings.base import Name, PositiveFloat, PositiveInt, PositiveRange, Range, Settings


def _share_range(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 < pair[0] <= pair[1] <= 1:
        raise ValueError("must be two shares of the image, above 0 and at most 1")
    return pair


def _count_range(pair: tuple[int, int]) -> tuple[int, int]:
    if pair[0] > pair[1]:
        raise ValueError("must be [smallest, largest]")
    return pair


ShareRange = Annotated[Range, AfterValidator(_share_range)]
Vertices = Annotated[int, Field(ge=5, le=64)]  # fewer could leave the polygon's centre outside


class RectangleMaskSettings(Settings):
    """Foreground rectangle with the distribution of RandomErasing (released code)."""

    kind: Literal["rectangle"] = "rectangle"
    area: ShareRange = (0.5, 0.8)  # share of the image
    aspect: PositiveRange = (0.8, 1.25)  # height / width
    aspect_sampling: Literal["uniform", "log"] = "uniform"


class PolygonMaskSettings(Settings):
    """One polygon, larger or smaller, somewhere in the image."""

    kind: Literal["polygon"]
    area: ShareRange = (0.5, 0.8)
    vertices: Annotated[tuple[Vertices, Vertices], AfterValidator(_count_range)] = (6, 12)


class BlocksMaskSettings(Settings):
    """The union of some rectangles, which may overlap and reach over the image's edge."""

    kind: Literal["blocks"]
    area: ShareRange = (0.5, 0.8)  # of the union
    count: Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(_count_range)] = (4, 8)
    aspect: PositiveRange = (0.5, 2.0)  # height / width of each, log-uniform


class PatchesMaskSettings(Settings):
    """Squares of a regular grid, each as likely as any other."""

    kind: Literal["patches"]
    area: ShareRange = (0.5, 0.8)
    patch: PositiveInt = 16  # pixels; 16 is one position of the feature map


class DinoMaskSettings(Settings):
    """Self-attention of a vision transformer, computed once an image by the stage `masks`.

    `checkpoint`, `magnification` and `blur` belong to that stage, the rest to pretraining.
    """

    kind: Literal["dino"]
    checkpoint: Name = "dino-vitb16"
    magnification: Annotated[int, Field(ge=1, le=4)] = 2  # of the size that the ViT was trained at
    blur: PositiveFloat = 1.0  # sigma of the Gaussian, in patches of the ViT
    mass: Annotated[float, Field(gt=0, lt=1)] = 0.6  # share of the attention on the foreground
    min_area: Annotated[float, Field(gt=0, le=0.5)] = 0.1  # of a crop that misses the foreground


class FullMaskSettings(Settings):
    """No copy-paste: views stay as they are, and all of them is foreground."""

    kind: Literal["full"]


def kind(value: Any) -> str:
    """The tag of a mask; rectangles need not say theirs. Error texts show this function's name."""
    if isinstance(value, Settings):
        return str(value.kind)  # type: ignore[attr-defined]
    return str(value.get("kind", "rectangle")) if isinstance(value, dict) else "rectangle"


MaskSettings = Annotated[
    Annotated[RectangleMaskSettings, Tag("rectangle")]
    | Annotated[PolygonMaskSettings, Tag("polygon")]
    | Annotated[BlocksMaskSettings, Tag("blocks")]
    | Annotated[PatchesMaskSettings, Tag("patches")]
    | Annotated[DinoMaskSettings, Tag("dino")]
    | Annotated[FullMaskSettings, Tag("full")],
    Discriminator(kind),
]

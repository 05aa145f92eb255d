"""How images become views in pretraining: reading, crops, colours. All of it may change pixels."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cp2.settings.base import (
    AreaRange,
    CropSide,
    PositiveInt,
    PositiveRange,
    Settings,
    Share,
    added,
)


class SecondView(Settings):
    """Where the second view (the key's, where keys have a view of their own) differs; BYOL."""

    blur_probability: Share
    solarize_probability: Share


class ViewSettings(Settings):
    """MoCo v2's "aug-plus" view of one image, in this order (MoCo v2 release; CP² sec. 3.1).

    Solarisation comes after the blur. `min_overlap` is the share of the second crop that must lie
    in the first one; up to ten second crops are drawn until one does, then both views are the
    central crop (PixCon release), or with `without_overlap: any` one more is drawn and taken as it
    is (SlotCon release).

    `jitter: released` is what PixCon's release makes of the same four numbers: gain and bias, then
    0.8 to 1.2 is added to the saturation, where torchvision multiplies with it.
    """

    crop_size: CropSide = 224
    crop_scale: AreaRange = (0.2, 1.0)
    crop_ratio: PositiveRange = (0.75, 4 / 3)
    jitter: Literal["torchvision", "released"] = added("torchvision")
    jitter_probability: Share = 0.8
    brightness: Share = 0.4
    contrast: Share = 0.4
    saturation: Share = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    gray_probability: Share = 0.2
    blur_probability: Share = 0.5
    blur_sigma: PositiveRange = (0.1, 2.0)  # pixels
    flip_probability: Share = 0.5
    solarize_probability: Share = added(0.0)
    min_overlap: Share = added(0.0)
    without_overlap: Literal["central", "any"] = added("central")
    interpolation: Literal["bilinear", "bicubic"] = added("bilinear")  # of crops, antialiased
    second: SecondView | None = added(None)

    @model_validator(mode="after")
    def _overlap_to_miss(self) -> "ViewSettings":
        if self.without_overlap == "any" and not self.min_overlap:
            raise ValueError(
                "without_overlap: any has no effect where min_overlap is 0; write more, or "
                "without_overlap: central"
            )
        return self

    def of(self, view: int) -> "ViewSettings":
        """Those of the first (even) or second (odd) view."""
        if view % 2 == 0 or self.second is None:
            return self
        return self.model_copy(update=self.second.model_dump())


class ReadingSettings(Settings):
    """From a file to the pixels that views are cropped from.

    `scaled`: decode a JPEG at 1/2, 1/4 or 1/8 of its size where each crop of the sample keeps at
    least twice `crop_size` pixels a side; pays for photographs much larger than the crops.
    `cache`: short side, in pixels, of a decoded copy of the data set that is read instead of its
    files; smaller images keep their size. None: the files themselves.
    `decoder`: who decodes JPEG files, the workers or the device (nvJPEG on a GPU, which may
    differ by a few levels); for a GPU whose workers are too slow.
    `unreadable`: a file that cannot be decoded is replaced by another image, drawn by counter, and
    named in the log, or it stops the run. With `decoder: device` only what the header tells is
    replaced; a file whose damage shows in decoding stops the run.
    """

    scaled: bool = False
    cache: PositiveInt | None = None
    decoder: Literal["workers", "device"] = added("workers")
    unreadable: Literal["replace", "stop"] = "replace"

    @model_validator(mode="after")
    def _one_of_both(self) -> "ReadingSettings":
        if self.scaled and self.cache:
            raise ValueError("scaled has no effect on a cache, which is decoded already; drop one")
        if self.decoder == "device" and (self.scaled or self.cache):
            other = "scaled" if self.scaled else "cache"
            raise ValueError(f"decoder: device does not go together with {other}; drop one")
        return self

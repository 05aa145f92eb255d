"""How an image becomes a view: crop, flip, colours."""

from typing import Annotated

from pydantic import Field

from cp2.settings.base import PositiveInt, PositiveRange, Range, Settings, Share, added


class SecondView(Settings):
    """Where the second view (the key's, where keys have a view of their own) differs; BYOL."""

    blur_probability: Share
    solarize_probability: Share


class ViewSettings(Settings):
    """MoCo v2's "aug-plus" view of one image, in this order (MoCo v2 release; CP² sec. 3.1).

    Solarisation comes after the blur. `min_overlap` is the share of the second crop that must lie
    in the first one; up to ten second crops are drawn until one does, then both views are the
    central crop (PixCon release).
    """

    crop_size: PositiveInt = 224
    crop_scale: Range = (0.2, 1.0)
    crop_ratio: PositiveRange = (0.75, 4 / 3)
    jitter_probability: Share = 0.8
    brightness: Share = 0.4
    contrast: Share = 0.4
    saturation: Share = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    gray_probability: Share = 0.2
    blur_probability: Share = 0.5
    blur_sigma: Range = (0.1, 2.0)  # pixels
    flip_probability: Share = 0.5
    solarize_probability: Share = added(0.0)
    min_overlap: Share = added(0.0)
    second: SecondView | None = added(None)

    def of(self, view: int) -> "ViewSettings":
        """Those of the first (even) or second (odd) view."""
        if view % 2 == 0 or self.second is None:
            return self
        return self.model_copy(update=self.second.model_dump())

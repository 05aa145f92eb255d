"""How photographs become pixels in pretraining. All of it may change pixels, so it is hashed."""

from typing import Literal

from pydantic import model_validator

from cp2.settings.base import PositiveInt, Settings, added


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

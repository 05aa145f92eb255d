"""Attention of a vision transformer for every image of a data set: one memory-mapped file."""

from functools import cached_property
from pathlib import Path

import numpy as np

from cp2.data.derived import DerivedRecord, check_source, make_again, read_record
from cp2.data.index import DatasetIndex
from cp2.errors import WrongFile

MAPS = "maps.u8"
RECORD = "maps.json"


class MapsRecord(DerivedRecord):
    """Content of maps.json: what maps.u8 holds, uint8 (images, side, side), in the split's order.

    A value v says: points with more attention than this one hold 1 - v / 255 of the image's
    attention. The smallest region with a share m of the attention is where v > 255 (1 - m).
    """

    side: int


class AttentionMaps:
    """The maps of one data set, read from disk as they are asked for.

    Raises:
        WrongFile: the files are missing or damaged, or do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / MAPS
        self.record = read_record(folder / RECORD, MapsRecord, "masks")
        expected = self.record.images * self.record.side**2
        found = self.path.stat().st_size if self.path.is_file() else 0
        if found != expected:
            raise WrongFile(
                f"{self.path} has {found} bytes, {RECORD} says {expected}; "
                f"{make_again(folder, 'masks')}"
            )

    def __len__(self) -> int:
        return self.record.images

    def __getitem__(self, index: int) -> np.ndarray:
        """The map of one image, uint8 (side, side)."""
        return self._maps[index]

    @cached_property
    def _maps(self) -> np.ndarray:
        shape = (self.record.images, self.record.side, self.record.side)
        return np.memmap(self.path, dtype=np.uint8, mode="r", shape=shape)

    def __getstate__(self) -> dict[str, object]:
        """For workers that are not forked: they map the file themselves."""
        return {key: value for key, value in vars(self).items() if key != "_maps"}

    def check(self, index: DatasetIndex) -> None:
        """Raise WrongFile unless these maps were made from this very data set."""
        check_source(self.record, index, self.path.parent, "masks")

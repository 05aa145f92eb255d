"""Pictures for the eye: image, label and prediction side by side."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cp2.data.labels import IGNORE
from cp2.record.files import whole_file

Palette = tuple[tuple[int, int, int], ...]
OVERLAY = 0.6  # share of the class colour over the image
GAP = 4  # white pixels between the three


def colour(classes: Tensor, palette: Palette) -> Tensor:
    """Train ids (H, W) -> uint8 (3, H, W); IGNORE is white, a class without a colour black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(palette)] = palette
    table[IGNORE] = 255
    return torch.from_numpy(table[classes.cpu().numpy()]).permute(2, 0, 1)


def write_picture(
    path: Path, image: Tensor, label: Tensor, prediction: Tensor, palette: Palette
) -> None:
    """A PNG: image uint8 (3, H, W), then label and prediction (H, W) laid over it.

    Raises:
        UserError: the disk is full.
    """
    panels = [image.cpu()]
    for classes in (label, prediction):
        mixed = OVERLAY * colour(classes, palette).float() + (1 - OVERLAY) * panels[0].float()
        panels.append(mixed.round().byte())
    gap = torch.full((3, image.shape[1], GAP), 255, dtype=torch.uint8)
    sheet = torch.cat([panels[0], gap, panels[1], gap, panels[2]], dim=2)
    with whole_file(path) as temporary:
        Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(temporary, format="PNG")


class PictureWriter:
    """Writes pictures in a thread of its own, so that the next image need not wait for them.

    A context manager: leaving it waits for the last picture.

    Raises:
        UserError: on leaving, the disk was full.
    """

    def __init__(self, folder: Path, palette: Palette) -> None:
        self._folder, self._palette = folder, palette
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._writing: list[Future[None]] = []

    def add(self, number: int, image: Tensor, label: Tensor, prediction: Tensor) -> None:
        """Image uint8 (3, H, W), label and prediction (H, W), the latter on any device."""
        path = self._folder / f"{number:04d}.png"
        self._writing.append(
            self._thread.submit(write_picture, path, image, label, prediction, self._palette)
        )

    def __enter__(self) -> "PictureWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            for writing in self._writing:
                writing.result()

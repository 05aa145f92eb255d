"""Decoding on the device: the workers hand over files as they are, and where to cut views out.

For a GPU whose workers cannot decode as fast as it trains; torchvision's decoder is nvJPEG there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

from cp2.augment.samples import ImagePool, PretrainDataset, SampleSpec, ViewBatch
from cp2.augment.views import crop
from cp2.data.images import decode_bytes
from cp2.data.pillow import reading
from cp2.data.sources import OpenImage
from cp2.drawing.crops import Box
from cp2.errors import UserError


class EncodedBatch(NamedTuple):
    """A batch whose crops are still to be decoded and cut out.

    A named tuple, because the data loader pins those field by field.
    """

    views: ViewBatch  # its crops: int64 (N, V, 5), index of the image and box of each view
    contents: Tensor  # uint8: files one after the other, or pixels of what devices cannot decode
    images: Tensor  # int64 (F,): index of each file's image
    ends: Tensor  # int64 (F,): where each file ends in `contents`
    sizes: Tensor  # int64 (F, 2): height and width of pixels, 0 of files


class EncodedDataset(PretrainDataset):
    """The samples of `PretrainDataset`, a batch at a time and not yet decoded."""

    def __getitems__(  # type: ignore[override]  # an image of several samples is handed over once
        self, specs: Sequence[SampleSpec]
    ) -> tuple[list[ViewBatch], dict[int, Tensor]]:
        """Samples, and the files (bytes,) or pixels (3, H, W) of their images by index."""
        pool = ImagePool(self.source, specs)
        contents: dict[int, Tensor] = {}
        cut = partial(_boxes, pool, contents)
        return [self.sample(spec, pool, cut) for spec in specs], contents

    def collate(  # type: ignore[override]  # takes what `__getitems__` returns
        self, batch: tuple[list[ViewBatch], dict[int, Tensor]]
    ) -> EncodedBatch:
        """One batch."""
        samples, contents = batch
        return _packed(super().collate(samples), contents)


def _boxes(
    pool: ImagePool,
    contents: dict[int, Tensor],
    indices: Sequence[int],
    boxes: Sequence[Box],
    opened: Mapping[int, OpenImage],
) -> Tensor:
    """Where the views lie, (V, 5); `contents` gets the files, or pixels, of their images."""
    for index, image in opened.items():
        if index in contents:
            continue
        if image.encoded is None:
            contents[index] = pool.pixels(image, index, 1)
        else:  # bytearray: a tensor over read-only memory would warn
            contents[index] = torch.frombuffer(bytearray(image.encoded), dtype=torch.uint8)
    return torch.tensor([(index, *box) for index, box in zip(indices, boxes, strict=True)])


def _packed(views: ViewBatch, contents: dict[int, Tensor]) -> EncodedBatch:
    rows = [content.flatten() for content in contents.values()]
    sizes = [content.shape[1:] if content.dim() == 3 else (0, 0) for content in contents.values()]
    return EncodedBatch(
        views,
        torch.cat(rows),
        torch.tensor(list(contents)),
        torch.tensor([len(row) for row in rows]).cumsum(0),
        torch.tensor(sizes),
    )


def check_decoder(device: torch.device) -> None:
    """Find out before the first step whether the device can decode.

    Raises:
        UserError: this torchvision has no decoder for it.
    """
    file = encode_jpeg(torch.zeros(3, 16, 16, dtype=torch.uint8))
    try:
        decode_jpeg([file], mode=ImageReadMode.RGB, device=device)
    except RuntimeError as error:
        raise UserError(
            f"reading.decoder: device, but torchvision {torchvision.__version__} decodes no JPEG "
            f"files on {device} ({error}); write decoder: workers"
        ) from None


def decoded(
    batches: Iterable[ViewBatch | EncodedBatch], dataset: PretrainDataset, device: torch.device
) -> Iterator[ViewBatch]:
    """The batches, with the crops of those that are encoded made on the device.

    Raises:
        WrongFile: a file whose header could be read, but not its pixels.
    """
    for batch in batches:
        if isinstance(batch, EncodedBatch):
            yield batch.views._replace(crops=_crops(batch, dataset, device))
        else:
            yield batch


def _crops(batch: EncodedBatch, dataset: PretrainDataset, device: torch.device) -> Tensor:
    """The views (N, V, S, S, 3) uint8."""
    views = dataset.settings.views
    size, mode = views.crop_size, views.interpolation
    images = dict(zip(batch.images.tolist(), _pixels(batch, dataset, device), strict=True))
    boxes = batch.views.crops
    crops = torch.empty(*boxes.shape[:2], size, size, 3, dtype=torch.uint8, device=device)
    for sample, row in enumerate(boxes.tolist()):
        for view, (index, *box) in enumerate(row):
            view_of = crop(images[index], tuple(box), size, mode)
            crops[sample, view].copy_(view_of.permute(1, 2, 0))
    return crops


def _pixels(batch: EncodedBatch, dataset: PretrainDataset, device: torch.device) -> list[Tensor]:
    """Every image, uint8 (3, H, W) on the device."""
    contents = batch.contents.tensor_split(batch.ends[:-1])
    files = [
        part for part, (height, _) in zip(contents, batch.sizes.tolist(), strict=True) if not height
    ]
    from_device = iter(_decode(files, device))
    images = []
    rows = zip(contents, batch.sizes.tolist(), batch.images.tolist(), strict=True)
    for content, (height, width), index in rows:
        image = content.view(3, height, width) if height else next(from_device)
        if image is None:  # refused by the device's decoder: what would the workers' say?
            path = Path(dataset.source.name(index))
            with reading(path):
                image = decode_bytes(content.numpy().tobytes())
        images.append(image.to(device, non_blocking=True))
    return images


def _decode(files: list[Tensor], device: torch.device) -> list[Tensor | None]:
    """All files at once; where that fails one by one, with None for those that fail.

    nvJPEG writes on a stream of its own, which waits for no other, into memory that this stream may
    have freed just now and whose last readers may not have run yet: so they are waited for.
    """
    if not files:
        return []
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    try:
        return list(decode_jpeg(files, mode=ImageReadMode.RGB, device=device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        if len(files) == 1:
            return [None]
        return [image for file in files for image in _decode([file], device)]

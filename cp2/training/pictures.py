"""Pictures of what a pretraining sees, made from its first batch."""

from pathlib import Path

import torch
from PIL import Image

from cp2.augment.copy_paste import compose, pastes, unpack
from cp2.augment.photometric import augment_views
from cp2.augment.samples import ViewBatch
from cp2.record.files import whole_file
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.models import IMAGENET_MEAN, IMAGENET_STD

GAP = 4  # white pixels between pictures


def picture_views(
    batch: ViewBatch, settings: PretrainingSettings, path: Path, rows: int = 4
) -> None:
    """A sheet with one row a sample.

    The two views; where they are composed, foreground, background, mask and composed image of the
    query, then the same of the key (CP², Figure 2).
    """
    crops = batch.crops[:rows].cpu().permute(1, 0, 4, 2, 3)
    views = [augment_views(crops[v], batch.parameters[:rows, v]) for v in range(len(crops))]
    columns = [_to_bytes(view) for view in views]
    if pastes(settings):
        columns = []
        for side in range(2):
            mask = unpack(batch.masks[:rows, side].cpu(), settings.views.crop_size)
            result = compose(views[side], views[2 + side], mask)
            columns += [_to_bytes(views[side]), _to_bytes(views[2 + side])]
            columns += [(mask * 255).byte().expand(-1, 3, -1, -1), _to_bytes(result)]
    sheet = torch.cat([_row([c[i] for c in columns]) for i in range(len(columns[0]))], dim=1)
    with whole_file(path) as temporary:
        Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(temporary, format="PNG")


def _row(images: list[torch.Tensor]) -> torch.Tensor:
    padded = [torch.nn.functional.pad(image, (GAP, GAP, GAP, GAP), value=255) for image in images]
    return torch.cat(padded, dim=2)


def _to_bytes(images: torch.Tensor) -> torch.Tensor:
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    return ((images * std + mean).clamp(0, 1) * 255).round().byte()

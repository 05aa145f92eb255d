"""Position embeddings of vision transformers on another grid than they were trained on."""

import torch
from torch.nn import functional as F


def resize_positions(
    embedding: torch.Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> torch.Tensor:
    """Bicubic resize of the patches' part; the class token's position is kept.

    As in the released code: no antialiasing. timm's own resize antialiases, which is another
    bicubic kernel even where the grid grows.

    Args:
        embedding: (1, 1 + rows * columns, D), class token first.
        old_grid: rows and columns of `embedding`.
        new_grid: rows and columns wanted.

    Returns:
        (1, 1 + new rows * new columns, D), same type.
    """
    if old_grid == new_grid:
        return embedding
    token, patches = embedding[:, :1], embedding[:, 1:]
    grid = patches.unflatten(1, old_grid).permute(0, 3, 1, 2)
    grid = F.interpolate(grid.float(), size=new_grid, mode="bicubic", align_corners=False)
    return torch.cat([token, grid.flatten(2).transpose(1, 2).to(embedding.dtype)], dim=1)

"""PIL's Gaussian blur as products with matrices, for a whole batch with a radius each."""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCKS = 5  # of a line; more would hardly save arithmetic, and cost more kernels


def blur(images: Tensor, radius: Tensor, reach: int) -> Tensor:
    """Three passes of a box, horizontally and vertically, over float (N, C, H, W) images.

    Pixels beyond the border repeat the border.

    Args:
        radius: of the box, float32 (N * C,), on the images' device.
        reach: pixels, from a blurred one to the farthest that it depends on.
    """
    height, width = images.shape[2:]
    down = _matrix(radius, _short_line(height, reach))
    across = down if width == height else _matrix(radius, _short_line(width, reach))
    planes = images.flatten(0, 1)
    # Joined afterwards: products into a part of a tensor are made one plane at a time on a CPU.
    blocks = _blocks(down, height, reach)
    rows = torch.cat([torch.bmm(block, planes[:, seen]) for seen, block in blocks], 1)
    blocks = _blocks(across, width, reach)
    columns = [torch.bmm(rows[:, :, seen], block.mT) for seen, block in blocks]
    return torch.cat(columns, 2).view(images.shape)


def box_radius(sigmas: Tensor) -> Tensor:
    """Real radius, float32 (N,), of the box that gives the blur when it is applied three times."""
    variance = sigmas.double().square() / 3
    whole = (((12 * variance + 1).sqrt() - 1) / 2).floor()
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    part = part / (6 * (variance - (whole + 1).square()))
    return (whole + part).float()


def _short_line(size: int, reach: int) -> int:
    """Length of a line that has both borders and, between them, a block that sees neither."""
    return min(size, -(-size // BLOCKS) + 2 * reach)


def _matrix(radius: Tensor, size: int) -> Tensor:
    """(N, size, size): row i holds the weights of all pixels in the blurred pixel i.

    A box of real radius r = l + a weights |d| <= l with 1 and |d| = l + 1 with a < 1 (PIL's
    extended box blur). Its cube is the blur: matrices handle the borders and any mix of sigmas in
    one batched product, without a kernel size that would change from batch to batch.
    """
    radius = radius.view(-1, 1, 1)
    position = torch.arange(size, device=radius.device)
    distance = (position[:, None] - position[None, :]).abs()
    box = (radius + 1 - distance).clamp_(0, 1) / (2 * radius + 1)
    beyond = 1 - box.sum(2)  # weight that falls outside, on the side of the nearer border
    box[:, : size // 2, 0] += beyond[:, : size // 2]
    box[:, size // 2 :, -1] += beyond[:, size // 2 :]
    return box @ box @ box


def _blocks(matrix: Tensor, size: int, reach: int) -> Iterator[tuple[slice, Tensor]]:
    """Parts of a whole line's matrix that together blur it: pixels that are seen, their weights.

    The whole matrix is nearly all zeros. Its rows near the borders are those of a short line's
    matrix, and between the borders they repeat, shifted.

    Args:
        matrix: (N, short, short), that of the short line.
        size: of the whole line.
    """
    short = matrix.shape[1]
    step = size if short == size else short - 2 * reach
    for start in range(0, size, step):
        stop = min(start + step, size)
        first, last = max(start - reach, 0), min(stop + reach, size)
        shift = min(first, size - short)  # of the short line along the whole one
        rows = slice(start - shift, stop - shift)
        yield slice(first, last), matrix[:, rows, first - shift : last - shift]

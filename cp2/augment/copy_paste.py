"""Copy-paste composition of foreground views and backgrounds (CP² Eq. 1)."""

import torch
from torch import Tensor


def compose(foreground: Tensor, background: Tensor, mask: Tensor) -> Tensor:
    """foreground * mask + background * (1 - mask); pixels keep their own position.

    Images (N, 3, S, S), mask (N, 1, S, S) in [0, 1].
    """
    return torch.lerp(background, foreground, mask)

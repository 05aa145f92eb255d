"""The queue of negative keys (MoCo sec. 3.2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class KeyQueue(nn.Module):
    """The last `size` keys, as unit columns of a (dim, size) buffer; starts with random ones.

    The pointer is a buffer too, named as in the MoCo release, and is never read by the host.
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.register_buffer("queue", F.normalize(torch.randn(dim, size), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest entries by keys (N, dim), wrapping at the end (CP² release).

        Of more keys than there are places, the last ones stay.
        """
        size = self.queue.shape[1]
        kept = keys[-size:].to(self.queue.dtype)
        first = self.queue_ptr + (len(keys) - len(kept))
        places = (first + torch.arange(len(kept), device=keys.device)) % size
        self.queue.index_copy_(1, places, kept.T)
        self.queue_ptr.add_(len(keys)).remainder_(size)

"""What contrastive methods exchange between processes; on one process nothing happens."""

import torch
from torch import Tensor, distributed, nn


def world_size() -> int:
    """Number of training processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@torch.no_grad()
def gather(tensor: Tensor) -> Tensor:
    """Concatenation of all processes' tensors (N, ...) in rank order, without gradient."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


@torch.no_grad()
def forward_shuffled(encoder: nn.Module, images: Tensor) -> Tensor:
    """The encoder's output for images (N, ...), each encoded in a random process' batch.

    Shuffling BN (MoCo sec. 3.3): query and key of an image are then normalised with statistics of
    different batches, so these cannot give the positive pair away. The first process draws the
    permutation from torch's global CPU generator.
    """
    if world_size() == 1:
        return encoder(images)
    everyone = gather(images)
    order = torch.randperm(len(everyone)).to(images.device)
    distributed.broadcast(order, src=0)
    mine = distributed.get_rank() * len(images) + torch.arange(len(images), device=images.device)
    encoded = gather(encoder(everyone[order[mine]]))
    return encoded[order.argsort()[mine]]

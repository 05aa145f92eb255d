"""Shuffling BN (MoCo sec. 3.3): keys are normalised among other images than their queries."""

from collections.abc import Callable

import torch
from torch import Tensor

from cp2.models.distributed import gather, rank
from cp2.settings.contrastive import ContrastiveSettings

Vectors = dict[str, Tensor]  # by name, (N, ...)


def groups(settings: ContrastiveSettings) -> int:
    """Number of groups of images that batch norm sees of a batch."""
    return -(-settings.batch_size // (settings.bn_group_size or settings.batch_size))


def shuffles(settings: ContrastiveSettings) -> bool:
    """Whether the order of the keys matters."""
    return settings.key_bn == "shuffle" and groups(settings) > 1


def bn_note(settings: ContrastiveSettings) -> str | None:
    """What to log once where `key_bn` cannot do what it says; None where it can."""
    if settings.key_bn == "none" or groups(settings) > 1:
        return None
    return (
        f"key_bn: {settings.key_bn} has no effect: query and key are each normalised with "
        f"statistics of the whole batch of {settings.batch_size} (bn_group_size: "
        f"{settings.bn_group_size})"
    )


@torch.no_grad()
def encode_shuffled(
    encode: Callable[[Tensor], dict[str, Tensor]], images: Tensor, order: Tensor
) -> dict[str, Tensor]:
    """Keys of images (N, ...), each encoded among random others of all processes.

    Statistics of batch norm then cannot give the positive pair away.

    Args:
        order: permutation of the whole batch, on the images' device; row i of the shuffled batch is
            image order[i].
    """
    everyone = gather(images)
    first = rank() * len(images)
    mine = slice(first, first + len(images))
    encoded = encode(everyone[order[mine]])
    back = order.argsort()[mine]
    return {name: gather(vectors)[back] for name, vectors in encoded.items()}

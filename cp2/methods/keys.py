"""How the key encoder's batch norm sees the batch (`key_bn`)."""

import torch
from torch import Tensor, nn

from cp2.methods.distributed import forward_shuffled, world_size
from cp2.settings.methods import MethodSettings


def bn_note(settings: MethodSettings, world_size: int) -> str | None:
    """What to log once where `key_bn` cannot do what it says; None where it can."""
    if settings.key_bn == "none" or world_size > 1:
        return None
    return (
        f"key_bn: {settings.key_bn} has no effect on one process: query and key are normalised "
        "with statistics of the same images"
    )


def prepare_key_bn(settings: MethodSettings, encoder: nn.Module) -> nn.Module:
    """The key encoder, with synchronised batch norm if `key_bn` says so."""
    if settings.key_bn == "sync" and world_size() > 1:
        return nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
    return encoder


@torch.no_grad()
def encode_keys(settings: MethodSettings, encoder: nn.Module, images: Tensor) -> Tensor:
    """The key encoder's output, without gradient."""
    return forward_shuffled(encoder, images) if settings.key_bn == "shuffle" else encoder(images)

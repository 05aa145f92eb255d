"""Where a vision transformer looks: the class token's self-attention (DINO, CP² Table 4)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cp2.models.backbones import ViTBackbone


def class_attention(backbone: ViTBackbone, images: Tensor) -> Tensor:
    """Attention of the last block's class token to each patch, averaged over heads.

    Images (N, 3, H, W) to (N, h, w), with h = floor(H / patch); what the class token pays to
    itself is left out, so a map sums to less than 1.
    """
    h, w = (size // backbone.stride for size in images.shape[-2:])
    blocks: list[Any] = list(backbone.blocks.children())
    tokens = backbone.embed(images)
    for block in blocks[:-1]:
        tokens = block(tokens)
    last, attention = blocks[-1], blocks[-1].attn
    packed = attention.qkv(last.norm1(tokens)).unflatten(2, (3, backbone.heads, -1))
    q, k, _ = packed.permute(2, 0, 3, 1, 4)  # each (N, heads, tokens, C / heads)
    q, k = attention.q_norm(q[:, :, :1]), attention.k_norm(k)
    shares = (attention.scale * q @ k.transpose(2, 3)).softmax(3)
    return shares.mean(1)[:, 0, 1:].unflatten(1, (h, w))


def smooth(maps: Tensor, enlargement: int, blur: float) -> Tensor:
    """Enlarge square maps (N, h, h) bilinearly and blur them: (N, enlargement * h, ...).

    `blur`: sigma of the Gaussian in positions of the input. Its weights are normalised within the
    map, so that nothing leaks in from outside.
    """
    positions = maps.shape[-1]
    side = enlargement * positions
    identity = torch.eye(positions, device=maps.device)[None]
    resize = F.interpolate(identity, size=side, mode="linear", align_corners=False)[0].T
    place = torch.arange(side, device=maps.device, dtype=torch.float32)
    weights = torch.exp(-(((place[:, None] - place) / (blur * enlargement)) ** 2) / 2)
    both = (weights / weights.sum(1, keepdim=True)) @ resize  # (side, positions)
    return both @ maps @ both.T


def mass_ranks(maps: Tensor) -> Tensor:
    """Each point's place in the order of attention, uint8, in the sense of `MapsRecord`.

    Positive maps (N, s, s): 255 at the largest, less by 255 times the share of the attention that
    larger points hold.
    """
    values, order = maps.flatten(1).double().sort(dim=1, descending=True, stable=True)
    shares = values / values.sum(1, keepdim=True)
    larger = shares.cumsum(1) - shares
    ranks = torch.empty_like(values).scatter_(1, order, 1 - larger)
    return (255 * ranks).round().clamp(0, 255).byte().view_as(maps)

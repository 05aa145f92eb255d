"""What foreign networks do otherwise and no shape shows: where they pad, which colours they see."""

from typing import Any

import torch
from torch import nn

from cp2.settings.models import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    BackboneSettings,
    Padding,
    ResNetSettings,
)

Colour = tuple[float, float, float]


class ToColours(nn.Module):
    """Images normalised by ImageNet's mean and deviation -> colours from 0 to 1 (SimCLR's input).

    Not folded into the first convolution: that one pads with 0, which is black here and the mean
    colour there.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.std + self.mean


def input_statistics(settings: BackboneSettings) -> tuple[Colour, Colour]:
    """Mean and deviation by which colours from 0 to 1 are normalised for a network, in RGB."""
    if isinstance(settings, ResNetSettings) and settings.input == "zero-one":
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return IMAGENET_MEAN, IMAGENET_STD


def pad_as_trained(net: Any, padding: Padding) -> None:
    """Give a timm ResNet TensorFlow's "SAME" padding where the stride is 2.

    Of an even number of rows, one is padded below and none above by a 3x3 kernel; PyTorch pads
    one above. With stride 1 both are the same.

    Args:
        net: changed in place.
        padding: "same": all layers; "same-pool": the first pooling only; "symmetric": none.
    """
    from timm.layers import Conv2dSame, create_pool2d

    if padding == "symmetric":
        return
    old = net.maxpool
    net.maxpool = create_pool2d("max", old.kernel_size, old.stride, padding="same")
    if padding == "same-pool":
        return
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.Conv2d) and max(module.stride) > 1 and max(module.kernel_size) > 1:
            same = Conv2dSame(
                module.in_channels,
                module.out_channels,
                (module.kernel_size[0], module.kernel_size[1]),
                (module.stride[0], module.stride[1]),
                dilation=(module.dilation[0], module.dilation[1]),
                bias=module.bias is not None,
            )
            same.weight = module.weight  # the start that timm drew
            _replace(net, name, same)


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, module)

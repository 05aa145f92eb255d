"""What foreign networks do otherwise and no shape shows: where they pad, which colours they see."""

from typing import Any

import torch
from torch import nn

from cp2.settings.models import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    BackboneSettings,
    InputScale,
    Padding,
)

Colour = tuple[float, float, float]


class ToColours(nn.Module):
    """Images normalised by ImageNet's mean and deviation -> as a network was trained with.

    Not folded into the first convolution: that one pads with 0, which is another colour there.

    Args:
        mean, std: of the network's own input; colours from 0 to 1 are SimCLR's.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Colour = (0.0, 0.0, 0.0), std: Colour = (1.0, 1.0, 1.0)) -> None:
        super().__init__()
        pixels = torch.tensor([IMAGENET_MEAN, IMAGENET_STD]).view(2, 3, 1, 1)
        own = torch.tensor([mean, std]).view(2, 3, 1, 1)
        self.register_buffer("mean", (pixels[0] - own[0]) / own[1], persistent=False)
        self.register_buffer("std", pixels[1] / own[1], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.std + self.mean


_INPUT: dict[InputScale, tuple[Colour, Colour]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "zero-one": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def input_statistics(settings: BackboneSettings) -> tuple[Colour, Colour]:
    """Mean and deviation by which colours from 0 to 1 are normalised for a network, in RGB."""
    return _INPUT["imagenet" if settings.family == "vit" else settings.input]


def to_colours(settings: BackboneSettings) -> nn.Module:
    """From the pipeline's images to those that the network sees."""
    own = input_statistics(settings)
    return nn.Identity() if own == _INPUT["imagenet"] else ToColours(*own)


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
            net.set_submodule(name, same)

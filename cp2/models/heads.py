"""Segmentation heads up to their last feature map: ASPP (DeepLabv3) and FCN.

Parameter names are those of the authors' checkpoints (`decode_head.` cut off), so that these load
without a table of names. The classifier and the projection are not part of a head.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from cp2.errors import UserError
from cp2.settings.models import AsppSettings, FcnSettings, HeadSettings


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, ReLU; keeps height and width.

    Convolutions start kaiming-normal (fan out), BN at weight 1 and bias 0 (released code).
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(
            in_channels, channels, kernel, padding=padding, dilation=dilation, bias=False
        )
        self.bn = nn.BatchNorm2d(channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class AsppHead(nn.Module):
    """Atrous spatial pyramid pooling as in DeepLabv3 (CP² sec. 4.1, released code).

    Branches: image pooling, then one convolution a dilation (1x1 where it is 1, else 3x3); their
    concatenation is fused by a 3x3 convolution. (N, in_channels, h, w) -> (N, channels, h, w).

    Raises:
        UserError: one image in training: batch norm has no variance over a single 1x1 map.
    """

    def __init__(self, settings: AsppSettings, in_channels: int) -> None:
        super().__init__()
        self.channels = settings.channels
        pooled = ConvBlock(in_channels, self.channels, kernel=1)
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), pooled)
        self.aspp_modules = nn.ModuleList(
            ConvBlock(in_channels, self.channels, kernel=1 if rate == 1 else 3, dilation=rate)
            for rate in settings.dilations
        )
        branches = 1 + len(settings.dilations)
        self.bottleneck = ConvBlock(branches * self.channels, self.channels, kernel=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm: Any = self.image_pool[1].bn
        if len(x) == 1 and norm.training and isinstance(norm, nn.BatchNorm2d):
            raise UserError(
                "one image per GPU, but the ASPP head's image pooling needs at least 2 in training "
                "(batch norm over 1x1 maps). Use a larger batch, fewer GPUs, or synchronised BN."
            )
        maps = [branch(x) for branch in self.aspp_modules]
        # Copied out, because an expanded tensor would make cat leave the channels_last layout.
        pooled = torch.empty_like(maps[0]).copy_(self.image_pool(x))
        return self.bottleneck(torch.cat([pooled, *maps], 1))


class FcnHead(nn.Module):
    """A row of atrous 3x3 convolutions (CP² sec. 4.1).

    (N, in_channels, h, w) -> (N, channels, h, w). With `concat_input` one more 3x3 convolution sees
    the input beside the last map (mmsegmentation's FCN; used by DenseCL, not by CP²).
    """

    def __init__(self, settings: FcnSettings, in_channels: int) -> None:
        super().__init__()
        self.channels = settings.channels
        widths = [in_channels] + [self.channels] * settings.convs
        self.convs = nn.Sequential(
            *(
                ConvBlock(before, after, kernel=3, dilation=settings.dilation)
                for before, after in pairwise(widths)
            )
        )
        self.conv_cat = (
            ConvBlock(in_channels + self.channels, self.channels, kernel=3)
            if settings.concat_input
            else None
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.convs(x)
        if self.conv_cat is None:
            return features
        return self.conv_cat(torch.cat([x, features], 1))


Head = AsppHead | FcnHead


def build_head(settings: HeadSettings, in_channels: int) -> Head:
    """A head with fresh weights for a backbone of `in_channels` channels."""
    if isinstance(settings, AsppSettings):
        return AsppHead(settings, in_channels)
    return FcnHead(settings, in_channels)

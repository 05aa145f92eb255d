"""Backbones: an image batch in, one feature map out. Architectures and their parts are timm's."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from cp2.errors import UserError
from cp2.models.conventions import pad_as_trained, to_colours
from cp2.models.timm_models import check_sizes, create, own_stride, side_multiple
from cp2.settings.models import BackboneSettings, ResNetSettings, TimmSettings, ViTSettings


class Backbone(nn.Module):
    """Images (N, 3, H, W) -> the last feature map (N, channels, h, w).

    Attributes:
        channels: channels of the map.
        stride: pixels of the image between two cells of the map.
    """

    channels: int
    stride: int


class ResNetBackbone(Backbone):
    """A timm ResNet without pooling and classifier; parameter names as in torchvision.

    Odd image sizes are rounded up: h = ceil(H / stride).

    Attributes:
        stage_channels: channels of the four stages.

    Args:
        colours: from images that are normalised as ImageNet's to what the network sees.
    """

    def __init__(
        self, net: Any, channels: int, stride: int, colours: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.to_colours = colours or nn.Identity()
        self.channels = channels
        self.stage_channels: tuple[int, ...] = tuple(
            one["num_chs"] for one in net.feature_info[-4:]
        )
        self.stride = stride
        self.conv1: nn.Module = net.conv1
        self.bn1: nn.Module = net.bn1
        self.act1: nn.Module = net.act1
        self.maxpool: nn.Module = net.maxpool
        self.layer1: nn.Module = net.layer1
        self.layer2: nn.Module = net.layer2
        self.layer3: nn.Module = net.layer3
        self.layer4: nn.Sequential = net.layer4

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last_two(images)[1]

    def last_two(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps of the last stage but one and of the last."""
        before, last = deque(self.stages(images), 2)
        return before, last

    def stages(self, images: torch.Tensor, count: int = 4) -> Iterator[torch.Tensor]:
        """The maps of the first `count` stages, (N, channels, h, w), one after the other."""
        x = self.maxpool(self.act1(self.bn1(self.conv1(self.to_colours(images)))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4)[:count]:
            x = stage(x)
            yield x


class ViTBackbone(Backbone):
    """A timm vision transformer whose last block's patch tokens form the map.

    As in the released code: the last rows and columns that do not fill a patch are not seen
    (h = floor(H / patch), at least 1), the position embedding is resized bicubically to (h, w), and
    the class token takes part in attention but not in the output.

    Attributes:
        heads: attention heads of each block. State dicts do not show them.
        grid: rows and columns that the stored position embedding was made for.
    """

    def __init__(self, net: Any, heads: int) -> None:
        super().__init__()
        self.channels = net.embed_dim
        self.stride = net.patch_embed.patch_size[0]
        self.heads = heads
        self.grid: tuple[int, int] = tuple(net.patch_embed.grid_size)
        self.patch_embed: nn.Module = net.patch_embed
        self.cls_token: nn.Parameter = net.cls_token
        self.pos_embed: nn.Parameter = net.pos_embed
        self.blocks: nn.Module = net.blocks
        self.norm: nn.Module = net.norm  # an Identity unless final_norm is asked for

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        h, w = self._map_size(images)
        tokens = self.norm(self.blocks(self.embed(images)))
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (h, w))

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """What the first block sees: (N, 1 + h * w, channels), the class token first."""
        h, w = self._map_size(images)
        lacking = [max(0, self.stride - size) for size in images.shape[-2:]]
        if any(lacking):  # a strip: filled up with the mean, as training pads
            images = F.pad(images, (0, lacking[1], 0, lacking[0]))
        patches = self.patch_embed(images[..., : h * self.stride, : w * self.stride])  # (N,h,w,C)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(1, 2)], 1)
        return tokens + resize_positions(self.pos_embed, self.grid, (h, w))

    def _map_size(self, images: torch.Tensor) -> tuple[int, int]:
        """Rows and columns of the map: whole patches, at least one."""
        height, width = images.shape[-2:]
        return max(1, height // self.stride), max(1, width // self.stride)


class TimmBackbone(Backbone):
    """Any network of timm's, by the maps that its `features_only` hands out.

    What comes behind the last map (norm, last convolution, classifier) is cut off. Where the
    network itself refuses a side, rows are added below and columns on the right, of the mean
    colour: h = ceil(H / stride).

    Attributes:
        stage_channels: channels of the last two maps.
        multiple: pixels that a side is filled up to a multiple of; 1: no side is.
        prefix: what timm's names of the parameters are below.
    """

    prefix = "net.model."

    def __init__(self, features: Any, colours: nn.Module) -> None:
        super().__init__()
        self.to_colours = colours
        self.stage_channels: tuple[int, ...] = tuple(features.feature_info.channels())
        self.channels = self.stage_channels[-1]
        self.stride = features.feature_info.reduction()[-1]
        self.multiple = side_multiple(features)
        self.net: nn.Module = features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last_two(images)[1]

    def last_two(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps of the last stage but one and of the last."""
        lacking = [-size % self.multiple for size in images.shape[-2:]]
        if any(lacking):
            images = F.pad(images, (0, lacking[1], 0, lacking[0]))
        found: tuple[torch.Tensor, torch.Tensor] = tuple(self.net(self.to_colours(images)))
        return found


def build_backbone(
    settings: BackboneSettings, zero_init_residual: bool = False, conv_init: str = "fan-out"
) -> Backbone:
    """A backbone with fresh weights.

    Args:
        zero_init_residual: ResNets only: the last BN of each residual branch starts with weight 0.
            True for CP² from scratch (mmsegmentation's default), False for MoCo (torchvision's).
        conv_init: ResNets only: what kaiming-normal weights of convolutions keep, the variance of
            gradients ("fan-out", torchvision's) or of maps ("fan-in", OpenSelfSup's).

    Raises:
        UserError: timm has no such architecture in this family, or refuses an argument.
    """
    if isinstance(settings, ResNetSettings):
        backbone = _build_resnet(settings, zero_init_residual)
        for module in backbone.modules() if conv_init == "fan-in" else ():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        return backbone
    return _build_timm(settings) if isinstance(settings, TimmSettings) else _build_vit(settings)


def _build_resnet(settings: ResNetSettings, zero_init_residual: bool) -> ResNetBackbone:
    # Convolutions start kaiming-normal (fan out), BN at weight 1 and bias 0, as in torchvision.
    # timm's dilated stage starts with a block of dilation 1, as in torchvision.
    net = create(
        settings,
        module="resnet",
        num_classes=0,
        global_pool="",
        output_stride=settings.output_stride,
        zero_init_last=zero_init_residual,
    )
    pad_as_trained(net, settings.padding)
    return ResNetBackbone(net, net.num_features, settings.output_stride, to_colours(settings))


def _build_vit(settings: ViTSettings) -> ViTBackbone:
    net = create(
        settings,
        module="vision_transformer",
        num_classes=0,
        global_pool="",
        num_heads=settings.heads,
        final_norm=settings.final_norm,
        dynamic_img_size=True,
    )
    patches = net.patch_embed.num_patches
    plain = net.cls_token is not None and net.pos_embed is not None
    if (
        not plain
        or net.pos_embed.shape[1] != 1 + patches
        or not isinstance(net.norm_pre, nn.Identity)
        or len(set(net.patch_embed.patch_size)) != 1
    ):
        raise UserError(
            f"backbone {settings.name}: arch {settings.arch} is not a plain vision transformer. "
            "Allowed are those with square patches, one class token, a learned position embedding "
            "of all tokens and no norm before the blocks, such as vit_small_patch16_224."
        )
    return ViTBackbone(net, settings.heads)


def _build_timm(settings: TimmSettings) -> TimmBackbone:
    ours: dict[str, Any] = {"features_only": True, "feature_cls": "getter", "out_indices": (-2, -1)}
    net = create(settings, module="", **ours)
    own = net.feature_info.reduction()[-1]
    if own != settings.output_stride:
        net = create(settings, module="", own=own, output_stride=settings.output_stride, **ours)
    if (made := net.feature_info.reduction()[-1]) != settings.output_stride:
        raise UserError(
            f"backbone {settings.name}: asked for output_stride {settings.output_stride}, timm's "
            f"{settings.arch} makes {made}. {own_stride(own)}"
        )
    check_sizes(settings, net)
    return TimmBackbone(net, to_colours(settings))


def resize_positions(
    embedding: torch.Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> torch.Tensor:
    """Bicubic resize of the patches' part; the class token's position is kept.

    As in the released code: no antialiasing. timm's own resize antialiases, which is another
    bicubic kernel even where the grid grows.

    Args:
        embedding: (1, 1 + rows * columns, D), class token first.
        old_grid: rows and columns of `embedding`.
        new_grid: rows and columns wanted.

    Returns:
        (1, 1 + new rows * new columns, D), same type.
    """
    if old_grid == new_grid:
        return embedding
    token, patches = embedding[:, :1], embedding[:, 1:]
    grid = patches.unflatten(1, old_grid).permute(0, 3, 1, 2)
    grid = F.interpolate(grid.float(), size=new_grid, mode="bicubic", align_corners=False)
    return torch.cat([token, grid.flatten(2).transpose(1, 2).to(embedding.dtype)], dim=1)

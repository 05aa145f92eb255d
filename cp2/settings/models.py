"""Backbones and segmentation heads."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cp2.settings.base import Name, PositiveInt, Settings, Share, unhashed

Padding = Literal["symmetric", "same-pool", "same"]
InputScale = Literal["imagenet", "zero-one", "half"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB, in colours from 0 to 1
IMAGENET_STD = (0.229, 0.224, 0.225)
PATCH = 16  # pixels of a side of a vision transformer's patch


class _Backbone(Settings):
    family: str
    name: Name
    title: str = unhashed()
    arch: str  # timm's name
    args: dict[str, Any] = Field(default_factory=dict)  # further arguments of timm's constructor

    @model_validator(mode="before")
    @classmethod
    def _pass_over_counts(cls, tree: Any) -> Any:
        """Earlier versions stated them in the files of backbones and of finetuned models."""
        counts = ("channels", "parameters", "gflop")
        return {k: v for k, v in tree.items() if k not in counts} if type(tree) is dict else tree


class ResNetSettings(_Backbone):
    """A timm ResNet with plain 7x7 stem (CP² sec. 3.2).

    Output stride 16 dilates the last stage; its first block keeps dilation 1 ("contracted"), as in
    the released code and in torchvision's `replace_stride_with_dilation`.

    `padding` and `input` are set by the checkpoint that a run starts from: networks that were
    trained in TensorFlow or Haiku pad the lower right side more where the stride is 2 ("same": all
    layers, "same-pool": the first pooling only), and SimCLR's sees colours from 0 to 1 ("zero-one")
    instead of ImageNet's mean and deviation; "half": colours from -1 to 1 (Inception's, which many
    of timm's networks see). The pipeline's images are converted back for it.
    """

    family: Literal["resnet"]
    output_stride: Literal[8, 16, 32] = 16
    padding: Padding = "symmetric"
    input: InputScale = "imagenet"

    @property
    def stride(self) -> int:
        """Pixels between two positions of the last feature map."""
        return self.output_stride


class ViTSettings(_Backbone):
    """A timm vision transformer that hands its last block's patch tokens on as a feature map."""

    family: Literal["vit"]
    heads: PositiveInt  # a wrong number loads silently (shapes agree), so it is always stated
    final_norm: bool = False  # the released ViT applies no LayerNorm after its last block

    @property
    def stride(self) -> int:
        """Pixels between two positions of the feature map: a patch's side."""
        return PATCH


class TimmSettings(_Backbone):
    """Any other network of timm's whose last map `features_only` hands out.

    Attributes:
        output_stride: pixels between two positions of the last map. Where it is not the network's
            own, timm must be able to dilate it; what timm cannot is refused.
        optimizer: which family's optimiser and rate of methods and protocols it is trained with:
            `resnet` (SGD) suits networks with batch norm, `vit` (AdamW) those with layer norm.
        input: as a ResNet's; set by the checkpoint that a run starts from.
    """

    family: Literal["timm"]
    output_stride: PositiveInt = 16
    optimizer: Literal["resnet", "vit"] = "resnet"
    input: InputScale = "imagenet"

    @property
    def stride(self) -> int:
        """Pixels between two positions of the last feature map."""
        return self.output_stride


BackboneSettings = Annotated[
    ResNetSettings | ViTSettings | TimmSettings, Field(discriminator="family")
]


def trained_as(backbone: ResNetSettings | ViTSettings | TimmSettings) -> Literal["resnet", "vit"]:
    """The family whose optimiser and learning rate a backbone is trained with."""
    return backbone.optimizer if backbone.family == "timm" else backbone.family


class AsppSettings(Settings):
    """DeepLabv3 head: image pooling, one 1x1 and three atrous 3x3 branches, 3x3 fusion."""

    kind: Literal["aspp"]
    name: Name
    title: str = unhashed()
    channels: PositiveInt = 512
    dilations: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 6, 12, 18)
    dropout: Share = 0.1  # before the classifier only, never in pretraining


class FcnSettings(Settings):
    """FCN head: `convs` atrous 3x3 convolutions (CP² sec. 4.1: 2 x 256 channels, rate 6)."""

    kind: Literal["fcn"]
    name: Name
    title: str = unhashed()
    channels: PositiveInt = 256
    convs: PositiveInt = 2
    dilation: PositiveInt = 6
    concat_input: bool = False
    dropout: Share = 0.1


HeadSettings = Annotated[AsppSettings | FcnSettings, Field(discriminator="kind")]

"""Faster and Mask R-CNN on a feature pyramid (FPN), with norms in all heads."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from cp2.models.backbones import ResNetBackbone
from cp2.protocols.detection.masks import MaskHead, four_convs
from cp2.protocols.detection.networks import SIZES, Detector
from cp2.protocols.detection.roi_heads import BoxPredictor
from cp2.protocols.detection.rpn import Kept, RegionProposals


class FPNDetector(Detector):
    """Faster or Mask R-CNN on a feature pyramid with norms in all heads.

    Args:
        sizes: of anchors, one a map.
        width: channels of the pyramid and of the heads' convolutions.
        hidden: channels of the box head's last layer.
        masks: whether there is a mask head.
    """

    divisible = 32
    strides = (4, 8, 16, 32)

    def __init__(
        self,
        backbone: ResNetBackbone,
        classes: int,
        sizes: Sequence[float] = SIZES,
        width: int = 256,
        hidden: int = 1024,
        masks: bool = True,
    ) -> None:
        rpn = RegionProposals(
            width,
            [[size] for size in sizes],
            (*self.strides, 64),
            Kept(2000, 1000),
            Kept(1000, 1000),
        )
        super().__init__(backbone, rpn, BoxPredictor(hidden, classes))
        self.pyramid = Pyramid(backbone.stage_channels, width)
        self.box_convs = four_convs(width)
        self.hidden = nn.Linear(width * self.pooled**2, hidden)
        nn.init.kaiming_uniform_(self.hidden.weight, a=1)
        nn.init.zeros_(self.hidden.bias)
        self.mask_head = MaskHead(width, classes) if masks else None

    def maps(self, batch: Tensor) -> list[Tensor]:
        found: list[Tensor] = self.pyramid(list(self.backbone.stages(batch)))
        return found

    def features(self, pooled: Tensor) -> Tensor:
        return F.relu(self.hidden(self.box_convs(pooled).flatten(1)))


class Pyramid(nn.Module):
    """A feature pyramid (FPN, sec. 3) of strides 4 to 32, and 64 for proposals, with norms."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_conv_norm(one, width, 1) for one in channels)
        self.output = nn.ModuleList(_conv_norm(width, width, 3) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        found: list[Tensor] = []
        above: Tensor | None = None
        for one, lateral, output in zip(
            reversed(maps), reversed(self.lateral), reversed(self.output), strict=True
        ):
            here = lateral(one)
            above = here if above is None else here + F.interpolate(above, scale_factor=2.0)
            found.insert(0, output(above))
        return [*found, F.max_pool2d(found[-1], kernel_size=1, stride=2)]


def _conv_norm(channels: int, width: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return nn.Sequential(conv, nn.BatchNorm2d(width))

"""Projections and predictions of whole views and of their positions (DenseCL sec. 3.2; PixCon)."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from cp2.models.backbones import Backbone
from cp2.settings.contrastive import HeadInit


class DenseFeatures(NamedTuple):
    """What is compared between two views, not normalised."""

    image: Tensor  # (N, dim)
    dense: Tensor  # (N, dim, S, S)
    map: Tensor  # (N, channels, S, S), of the backbone


def mlp(before: int, hidden: int, after: int, norm: bool) -> nn.Sequential:
    """Linear, [batch norm,] ReLU, Linear: (N, before) -> (N, after)."""
    norms = [nn.BatchNorm1d(hidden)] if norm else []
    return nn.Sequential(
        nn.Linear(before, hidden), *norms, nn.ReLU(inplace=True), nn.Linear(hidden, after)
    )


def conv_mlp(before: int, hidden: int, after: int, norm: bool) -> nn.Sequential:
    """The same at each position, as 1x1 convolutions: (N, before, h, w) -> (N, after, h, w)."""
    norms = [nn.BatchNorm2d(hidden)] if norm else []
    return nn.Sequential(
        nn.Conv2d(before, hidden, 1), *norms, nn.ReLU(inplace=True), nn.Conv2d(hidden, after, 1)
    )


def init_linear(layers: nn.Sequential, kind: HeadInit) -> None:
    """First values of Linear layers: PyTorch's, or kaiming-normal (fan in) with bias 0.

    The latter is OpenSelfSup's `init_linear="kaiming"`, which DenseCL's release uses.
    """
    for layer in layers if kind == "kaiming" else ():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            nn.init.zeros_(layer.bias)


class TwoHeadEncoder(nn.Module):
    """Images (N, 3, H, W) -> `DenseFeatures`; the two heads share no weights.

    Convolutions start as PyTorch's (DenseCL and PixCon releases).

    Args:
        norm: batch norm in both hidden layers (PixCon).
        head_init: of Linear layers, see `init_linear`.
        grid: side that the backbone's map is pooled to; None: as it is.
    """

    def __init__(
        self,
        backbone: Backbone,
        dim: int,
        norm: bool = False,
        grid: int | None = None,
        head_init: HeadInit = "kaiming",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.grid = grid
        channels = backbone.channels
        self.fc = mlp(channels, channels, dim, norm)
        self.dense = conv_mlp(channels, channels, dim, norm)
        init_linear(self.fc, head_init)

    def forward(self, images: Tensor) -> DenseFeatures:
        whole: Tensor = self.backbone(images)
        # Similarities are taken on the pooled map (DenseCL Table 6); the release
        # pools in front of the dense head only.
        map = F.adaptive_avg_pool2d(whole, self.grid) if self.grid else whole
        return DenseFeatures(self.fc(whole.mean(dim=(2, 3))), self.dense(map), map)


class DensePredictor(nn.Module):
    """A prediction of the other view's projections, from the query's; the map stays as it is."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.image = mlp(dim, hidden, dim, norm=True)
        self.cells = conv_mlp(dim, hidden, dim, norm=True)  # its name in saved states

    def forward(self, features: DenseFeatures) -> DenseFeatures:
        return DenseFeatures(self.image(features.image), self.cells(features.dense), features.map)

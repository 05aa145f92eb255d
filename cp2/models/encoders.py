"""What is trained: backbone, head and projection put together for pretraining and segmentation."""

import torch
from torch import nn

from cp2.models.backbones import Backbone
from cp2.models.heads import Head
from cp2.models.projectors import mlp


class DenseProjection(nn.Sequential):
    """1x1 convolutions with ReLU between them: (N, channels, h, w) -> (N, dim, h, w), no BN.

    One hidden layer in the released code and CP² sec. 3.2; sec. 4.1 can be read as two. PyTorch's
    default initialisation, as released.
    """

    def __init__(self, channels: int, dim: int = 128, hidden_layers: int = 1) -> None:
        layers: list[nn.Module] = []
        for _ in range(hidden_layers):
            layers += [nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Conv2d(channels, dim, 1))


class DenseEncoder(nn.Module):
    """Images (N, 3, H, W) -> a vector a position, (N, dim, h, w), not normalised (CP² sec. 3.2)."""

    def __init__(self, backbone: Backbone, head: Head, projection: DenseProjection) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.projection = projection

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.projection(self.head(self.backbone(images)))


class GlobalEncoder(nn.Module):
    """Images (N, 3, H, W) -> one vector an image, (N, dim), not normalised (MoCo v2).

    Global average pooling, then Linear, ReLU, Linear under MoCo's names fc.0 and fc.2.

    Args:
        norm: batch norm in the hidden layer (MoCo v2+), which moves the last Linear to fc.3.
    """

    def __init__(self, backbone: Backbone, dim: int = 128, norm: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = mlp(backbone.channels, backbone.channels, dim, norm)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.backbone(images).mean(dim=(2, 3)))


class BatchDropout2d(nn.Dropout2d):
    """Dropout of whole channels that is drawn for all of a batch, of which this input is a part.

    A sample then loses the same channels however the batch is cut.

    Attributes:
        rows: this input's first sample, and the size of the whole batch; None: it is the batch.
    """

    rows: tuple[int, int] | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return input
        first, whole = self.rows or (0, len(input))
        # As torch draws it, so that an undivided batch gets nn.Dropout2d's very numbers.
        keep = input.new_empty(whole, input.shape[1], 1, 1).bernoulli_(1 - self.p)
        if self.p < 1:
            keep.div_(1 - self.p)
        return input * keep[first : first + len(input)]


class Segmentor(nn.Module):
    """Images (N, 3, H, W) -> class logits (N, classes, h, w) at the backbone's stride.

    The caller enlarges them to the labels' size.

    Args:
        dropout: share of channels dropped before the classifier in training (Dropout2d).
    """

    def __init__(self, backbone: Backbone, head: Head, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.dropout = BatchDropout2d(dropout)
        self.conv_seg = classifier(head.channels, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits(self.backbone(images))

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """The backbone's map (N, channels, h, w) -> class logits (N, classes, h, w)."""
        return self.conv_seg(self.dropout(self.head(features)))


def classifier(channels: int, num_classes: int) -> nn.Conv2d:
    """A 1x1 convolution that starts with weights N(0, 0.01) and bias 0 (released code)."""
    layer = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    layer.bias = nn.Parameter(torch.zeros(num_classes))
    return layer

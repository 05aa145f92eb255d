"""A second segmentation head on the last stage but one, for training only."""

import torch
from torch import nn

from cp2.models.backbones import ResNetBackbone
from cp2.models.encoders import BatchDropout2d, Segmentor, classifier
from cp2.models.heads import build_head
from cp2.settings.models import HeadSettings


class DeeplySupervised(nn.Module):
    """Images (N, 3, H, W) -> the segmentor's logits and those of a head of its own.

    The head sees the ResNet's last stage but one; its weights are fresh and never saved
    (mmsegmentation's `auxiliary_head`).
    """

    def __init__(self, segmentor: Segmentor, settings: HeadSettings) -> None:
        super().__init__()
        backbone = segmentor.backbone
        assert isinstance(backbone, ResNetBackbone)  # the plan refuses others
        self.segmentor = segmentor
        self.head = build_head(settings, backbone.stage_channels[-2])
        self.dropout = BatchDropout2d(settings.dropout)
        self.conv_seg = classifier(self.head.channels, segmentor.conv_seg.out_channels)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        backbone = self.segmentor.backbone
        assert isinstance(backbone, ResNetBackbone)
        before, last = backbone.last_two(images)
        return self.segmentor.logits(last), self.conv_seg(self.dropout(self.head(before)))


def set_dropout_rows(model: nn.Module, rows: tuple[int, int]) -> None:
    """Say which part of the whole batch comes next; see `BatchDropout2d`."""
    for module in model.modules():
        if isinstance(module, BatchDropout2d):
            module.rows = rows

"""MoCo v2+ (PixCon, supplement; release, `MoCoV2plus`): MoCo v2 with the step of newer methods."""

from torch import nn

from cp2.methods.contrastive import Contrastive
from cp2.methods.moco_v2 import InstanceContrast
from cp2.models.backbones import Backbone
from cp2.models.encoders import GlobalEncoder
from cp2.models.heads import Head
from cp2.models.projectors import mlp
from cp2.settings.methods import PlainSettings


def encoder(settings: PlainSettings, backbone: Backbone, head: Head | None) -> GlobalEncoder:
    """As MoCo v2's, with batch norm, another width or a third layer in the projection if asked."""
    made = GlobalEncoder(backbone, settings.dim, settings.projector_norm)
    width = settings.projector_width
    if width and settings.projector_layers == 2:
        made.fc = mlp(backbone.channels, width, settings.dim, settings.projector_norm)
    elif settings.projector_layers == 3:
        width = width or backbone.channels
        layers = mlp(backbone.channels, width, width, settings.projector_norm)
        made.fc = nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Linear(width, settings.dim))
    return made


def method(settings: PlainSettings, encoder: nn.Module, micro_batches: int) -> Contrastive:
    """MoCo v2+ around an encoder of images (N, 3, S, S) to (N, dim)."""
    dim, width = settings.dim, settings.predictor_width
    predictor = mlp(dim, width, dim, norm=True) if settings.predictor else None
    objective = InstanceContrast(settings)
    return Contrastive(settings, encoder, objective, micro_batches, predictor=predictor)

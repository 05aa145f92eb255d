"""BYOL (NeurIPS 2020): each view predicts the other's projection; no negatives.

As OpenSelfSup and mmselfsup have it, on which the papers that quote it build.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from cp2.augment.pipeline import PreparedBatch
from cp2.methods.contrastive import Contrastive, Objective, Vectors
from cp2.methods.step import LossTerms, Step
from cp2.models.backbones import Backbone
from cp2.models.encoders import GlobalEncoder
from cp2.models.heads import Head
from cp2.models.projectors import init_linear, mlp
from cp2.settings.rivals import ByolSettings


class Regression(Objective):
    """-2 cos(prediction, target): the squared distance of unit vectors, less 2."""

    terms = ("loss",)

    def __init__(self, settings: ByolSettings) -> None:
        super().__init__(settings.dim, settings.queue_size, queues=())

    def keys(self, features: Tensor) -> Vectors:
        """Unit vectors (N, dim)."""
        return {"image": F.normalize(features.float(), dim=1)}

    def forward(
        self, features: Tensor, keys: Vectors, batch: PreparedBatch, step: Step
    ) -> LossTerms:
        """Mean over the images."""
        q = F.normalize(features.float(), dim=1)
        return {"loss": -2 * (q * keys["image"]).sum(1).mean()}


def encoder(settings: ByolSettings, backbone: Backbone, head: Head | None) -> GlobalEncoder:
    """Global pooling and a wide MLP; the head is of no use here."""
    made = GlobalEncoder(backbone, settings.dim)
    made.fc = mlp(backbone.channels, settings.projector_width, settings.dim, norm=True)
    init_linear(made.fc, settings.head_init)
    return made


def method(settings: ByolSettings, encoder: nn.Module, micro_batches: int) -> Contrastive:
    """BYOL around an encoder of images (N, 3, S, S) to (N, dim)."""
    predictor = mlp(settings.dim, settings.predictor_width, settings.dim, norm=True)
    for layer in predictor if settings.head_init == "kaiming" else ():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
    objective = Regression(settings)
    return Contrastive(settings, encoder, objective, micro_batches, predictor=predictor)

"""MoCo v2 (arXiv 2003.04297; MoCo release, `main_moco.py --mlp --moco-t 0.2 --aug-plus --cos`)."""

from torch import Tensor, nn
from torch.nn import functional as F

from cp2.augment.pipeline import PreparedBatch
from cp2.methods.contrastive import Contrastive, Objective, Vectors
from cp2.methods.losses import info_nce
from cp2.methods.step import LossTerms, Step
from cp2.models.backbones import Backbone
from cp2.models.encoders import GlobalEncoder
from cp2.models.heads import Head
from cp2.models.projectors import init_linear
from cp2.settings.contrastive import ContrastiveSettings
from cp2.settings.methods import MoCoV2Settings


class InstanceContrast(Objective):
    """One global vector a view, (N, dim), against a queue of earlier keys."""

    def __init__(self, settings: ContrastiveSettings) -> None:
        super().__init__(settings.dim, settings.queue_size)
        self.temperature = settings.temperature

    def keys(self, features: Tensor) -> Vectors:
        """Unit vectors (N, dim)."""
        return {"image": F.normalize(features.float(), dim=1)}

    def forward(
        self, features: Tensor, keys: Vectors, batch: PreparedBatch, step: Step
    ) -> LossTerms:
        """InfoNCE of the query's own key against the queue."""
        q = F.normalize(features.float(), dim=1)
        loss, accuracy = info_nce(q, keys["image"], self.queue(), self.temperature)
        return {"loss": loss, "loss_instance": loss.detach(), "accuracy_instance": accuracy}

    def entries(self, keys: Vectors, mask_k: Tensor | None) -> Vectors:
        """The keys themselves."""
        return {"queue": keys["image"]}


def encoder(settings: MoCoV2Settings, backbone: Backbone, head: Head | None) -> GlobalEncoder:
    """Global pooling and a two-layer MLP; the head is of no use here."""
    made = GlobalEncoder(backbone, settings.dim)
    init_linear(made.fc, settings.head_init)
    return made


def method(settings: MoCoV2Settings, encoder: nn.Module, micro_batches: int) -> Contrastive:
    """MoCo v2 around an encoder of images (N, 3, S, S) to (N, dim)."""
    return Contrastive(settings, encoder, InstanceContrast(settings), micro_batches)

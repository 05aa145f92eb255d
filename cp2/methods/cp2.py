"""CP²: copy-paste contrastive pretraining (ECCV 2022, sec. 3)."""

from torch import Tensor, nn
from torch.nn import functional as F

from cp2.augment.copy_paste import downsample
from cp2.augment.pipeline import PreparedBatch
from cp2.errors import UserError
from cp2.methods.contrastive import Contrastive, Objective, Vectors
from cp2.methods.losses import dense_loss, info_nce, masked_average
from cp2.methods.step import LossTerms, Step
from cp2.models.backbones import Backbone
from cp2.models.encoders import DenseEncoder, DenseProjection
from cp2.models.heads import Head
from cp2.settings.methods import Cp2Settings


class CopyPasteContrast(Objective):
    """Instance loss between foreground averages plus dense loss between positions (Eq. 5)."""

    terms = ("loss", "loss_instance", "accuracy_instance", "loss_dense", "accuracy_dense")

    def __init__(self, settings: Cp2Settings) -> None:
        super().__init__(settings.dim, settings.queue_size)
        self.settings = settings

    def keys(self, features: Tensor) -> Vectors:
        """Unit vectors of the positions, (N, dim, h, w)."""
        return {"dense": F.normalize(features.float(), dim=1)}

    def forward(
        self, features: Tensor, keys: Vectors, batch: PreparedBatch, step: Step
    ) -> LossTerms:
        """Both losses, the dense one before its weight.

        Raises:
            UserError: the masks cannot be point sampled onto the feature map.
        """
        settings = self.settings
        assert batch.mask_q is not None
        assert batch.mask_k is not None
        q, k = F.normalize(features.float(), dim=1), keys["dense"]
        inside_q, inside_k = _on_map(batch.mask_q, q), _on_map(batch.mask_k, k)
        instance, accuracy_instance = info_nce(
            masked_average(q, inside_q),
            masked_average(k, inside_k),
            self.queue(),
            settings.temperature,
        )
        dense, accuracy_dense = dense_loss(
            q, k, inside_q, inside_k, settings.dense_temperature, settings.dense_softmax_axis
        )
        return {
            "loss": settings.instance_weight * instance + settings.dense_weight * dense,
            "loss_instance": instance.detach(),
            "loss_dense": dense.detach(),
            "accuracy_instance": accuracy_instance,
            "accuracy_dense": accuracy_dense,
        }

    def entries(self, keys: Vectors, mask_k: Tensor | None) -> Vectors:
        """Averages over the foregrounds."""
        assert mask_k is not None
        k = keys["dense"]
        return {"queue": masked_average(k, _on_map(mask_k, k))}


def _on_map(mask: Tensor, features: Tensor) -> Tensor:
    """The mask at the positions of the feature map."""
    size, side = mask.shape[-1], features.shape[-1]
    if size % side:
        raise UserError(
            f"crop_size {size} gives a feature map of {side} x {side} positions, of which it is no "
            "multiple; choose a crop_size that is a multiple of the backbone's output stride"
        )
    return downsample(mask, size // side)


def encoder(settings: Cp2Settings, backbone: Backbone, head: Head | None) -> DenseEncoder:
    """Backbone, segmentation head and projection.

    Raises:
        UserError: there is no head.
    """
    if head is None:
        raise UserError(f"method {settings.name!r} pretrains a head, but the recipe has none")
    projection = DenseProjection(head.channels, settings.dim, settings.projection_hidden_layers)
    return DenseEncoder(backbone, head, projection)


def method(settings: Cp2Settings, encoder: nn.Module, micro_batches: int) -> Contrastive:
    """CP² around an encoder of images (N, 3, S, S) to (N, dim, h, w), not normalised."""
    return Contrastive(settings, encoder, CopyPasteContrast(settings), micro_batches)

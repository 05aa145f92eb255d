"""MoCo v2 (arXiv 2003.04297; MoCo release, `main_moco.py --mlp --moco-t 0.2 --aug-plus --cos`)."""

from torch import Tensor, nn
from torch.nn import functional as F

from cp2.methods.distributed import gather
from cp2.methods.keys import encode_keys, prepare_key_bn
from cp2.methods.losses import info_nce
from cp2.methods.momentum import MomentumPair
from cp2.methods.queue import KeyQueue
from cp2.settings.methods import MoCoV2Settings

LossTerms = dict[str, Tensor]


class MoCoV2(nn.Module):
    """One global vector a view against a queue of earlier keys.

    `encoder` maps images (N, 3, S, S) to (N, dim), not normalised.
    """

    def __init__(self, settings: MoCoV2Settings, encoder: nn.Module) -> None:
        super().__init__()
        self.settings = settings
        self.encoders = MomentumPair(encoder)
        self.encoders.key = prepare_key_bn(settings, self.encoders.key)
        self.keys = KeyQueue(settings.dim, settings.queue_size)

    def forward(
        self,
        images_q: Tensor,
        images_k: Tensor,
        mask_q: Tensor | None = None,
        mask_k: Tensor | None = None,
    ) -> LossTerms:
        """One step's scalars: loss, loss_instance, accuracy_instance; the keys join the queue.

        The masks are for methods that compose images; here they are not used.
        """
        q = F.normalize(self.encoders.query(images_q).float(), dim=1)
        self.encoders.update(self.settings.momentum)
        encoded = encode_keys(self.settings, self.encoders.key, images_k)
        k = F.normalize(encoded.float(), dim=1)
        loss, accuracy = info_nce(q, k, self.keys.queue.clone(), self.settings.temperature)
        self.keys.enqueue(gather(k))
        return {"loss": loss, "loss_instance": loss.detach(), "accuracy_instance": accuracy}

"""SimCLR (ICML 2020), as OpenSelfSup has it: the views of a batch are told from each other."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cp2.augment.pipeline import PreparedBatch
from cp2.methods.step import LossTerms, Method, Step
from cp2.models.backbones import Backbone
from cp2.models.devices import full_precision
from cp2.models.distributed import gather, rank, world_size
from cp2.models.encoders import GlobalEncoder
from cp2.models.heads import Head
from cp2.settings.rivals import SimClrSettings


def nt_xent(z: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each view's partner against all other views of the batch.

    Args:
        z: projections (2, N, dim) of both views, not normalised.

    Returns:
        Mean over the 2N views, and the share of views whose partner is the nearest.
    """
    with full_precision(z.device):
        unit = F.normalize(z.float().flatten(0, 1), dim=1, eps=1e-10)
        logits = (unit @ unit.T).fill_diagonal_(-torch.inf) / temperature
        partner = torch.arange(len(unit), device=z.device).roll(z.shape[1])
        accuracy = (logits.detach().argmax(1) == partner).float().mean()
        return F.cross_entropy(logits, partner), accuracy


def of_all_processes(z: Tensor) -> Tensor:
    """Projections (2, N, dim) of all processes, (2, N * processes, dim), this one's with gradient.

    Every process computes the loss of the whole batch. Its gradient for the own views is all of the
    true one, but gradients of parameters become means over the processes: hence the factor.
    """
    if world_size() == 1:
        return z
    own = z.float()
    everyone = gather(own.detach().transpose(0, 1)).transpose(0, 1)
    scaled = own.detach() + world_size() * (own - own.detach())
    first, last = rank() * z.shape[1], (rank() + 1) * z.shape[1]
    return torch.cat([everyone[:, :first], scaled, everyone[:, last:]], dim=1)


class SimClr(Method):
    """One network; both views have a gradient, and pass it together (one batch norm for both)."""

    settings: SimClrSettings
    terms = ("loss", "accuracy_instance")

    def __init__(self, settings: SimClrSettings, encoder: nn.Module, micro_batches: int) -> None:
        super().__init__(settings, micro_batches)
        self.encoder = self.grouped(encoder)

    @property
    def encoders_of_images(self) -> tuple[nn.Module, ...]:
        """The network."""
        return (self.encoder,)

    def forward(self, batch: PreparedBatch, prepared: Any, step: Step) -> LossTerms:
        """NT-Xent over the views of all processes."""
        z = self.encoder(torch.cat([batch.images_q, batch.images_k])).unflatten(0, (2, -1))
        if self.watched:
            self.see(*F.normalize(z.float(), dim=2))
        loss, accuracy = nt_xent(of_all_processes(z), self.settings.temperature)
        return {"loss": loss, "accuracy_instance": accuracy}


def encoder(settings: SimClrSettings, backbone: Backbone, head: Head | None) -> GlobalEncoder:
    """Global pooling and two Linear layers without bias, each before a batch norm."""
    channels, dim = backbone.channels, settings.dim
    made = GlobalEncoder(backbone, dim)
    hidden, last = nn.Linear(channels, channels, bias=False), nn.Linear(channels, dim, bias=False)
    for layer in (hidden, last):
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    norms = nn.BatchNorm1d(channels), nn.BatchNorm1d(dim)
    made.fc = nn.Sequential(hidden, norms[0], nn.ReLU(inplace=True), last, norms[1])
    return made


def method(settings: SimClrSettings, encoder: nn.Module, micro_batches: int) -> SimClr:
    """SimCLR around an encoder of images (N, 3, S, S) to (N, dim)."""
    return SimClr(settings, encoder, micro_batches)

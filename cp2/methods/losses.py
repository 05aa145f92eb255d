"""The contrastive losses, as functions of L2-normalised features.

All compute in float32, also under autocast: at temperature 0.2 half precision would cost digits.
Each returns the loss and an accuracy, both scalars on the features' device.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE with one positive and a queue of negatives (MoCo Eq. 1; CP² Eq. 3).

    Args:
        q, k: unit vectors (N, D); q's gradient is wanted, k and queue have none.
        queue: unit columns (D, K).

    Returns:
        Mean cross-entropy, and the share of queries whose own key is the nearest of 1 + K.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k = q.float(), k.float()
        positive = torch.einsum("nd,nd->n", q, k)
        negatives = q @ queue.float()  # (N, K)
        logits = torch.cat([positive[:, None], negatives], dim=1) / temperature
        loss = (logits.logsumexp(1) - logits[:, 0]).mean()
        accuracy = (positive.detach() > negatives.detach().amax(1)).float().mean()
    return loss, accuracy


def masked_average(features: Tensor, mask: Tensor) -> Tensor:
    """Normalised sum of the foreground's unit vectors (CP² Eq. 4): (N, D, h, w) to (N, D)."""
    return F.normalize((features.float() * mask).sum((2, 3)), dim=1)


def dense_loss(
    q: Tensor, k: Tensor, mask_q: Tensor, mask_k: Tensor, temperature: float, axis: str
) -> tuple[Tensor, Tensor]:
    """Every foreground query cell is pulled to every foreground key cell of the same image.

    With s_xy = q_x . k_y and foregrounds Fq, Fk, an image's loss is the mean over x in Fq, y in Fk
    of -log softmax(s / temperature)_xy. As the positives' mean is the product of the mean vectors,
    it is mean over x of logsumexp_y(s_xy / temperature) minus mean_q . mean_k / temperature.

    Args:
        q, k: unit vectors (N, D, h, w).
        mask_q, mask_k: (N, 1, h, w) in {0, 1}, with one foreground cell at least.
        axis: what the softmax runs over. "key": all key cells of a query cell (CP² Eq. 2).
            "query": all query cells of a key cell (released code).

    Returns:
        The mean over images, and the share of images whose most similar pair of cells is a pair
        of foreground cells ("Acc_seg" of the released code).
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k = q.float().flatten(2), k.float().flatten(2)  # (N, D, P)
        share_q, share_k = _shares(mask_q), _shares(mask_k)  # (N, P)
        similarity = torch.einsum("ndx,ndy->nxy", q, k)
        scaled = similarity / temperature
        if axis == "key":
            normalizer = (scaled.logsumexp(2) * share_q).sum(1)
        else:
            normalizer = (scaled.logsumexp(1) * share_k).sum(1)
        mean_q = torch.einsum("ndx,nx->nd", q, share_q)
        mean_k = torch.einsum("ndy,ny->nd", k, share_k)
        positive = (mean_q * mean_k).sum(1) / temperature
        loss = (normalizer - positive).mean()
        accuracy = _nearest_is_foreground(similarity.detach(), mask_q, mask_k)
    return loss, accuracy


def _shares(mask: Tensor) -> Tensor:
    """Each foreground cell's weight in a mean over the foreground: (N, 1, h, w) to (N, P)."""
    cells = mask.float().flatten(1)
    return cells / cells.sum(1, keepdim=True)


def _nearest_is_foreground(similarity: Tensor, mask_q: Tensor, mask_k: Tensor) -> Tensor:
    cells = similarity.shape[2]
    nearest = similarity.flatten(1).argmax(1, keepdim=True)
    in_q = mask_q.flatten(1).gather(1, nearest // cells)
    in_k = mask_k.flatten(1).gather(1, nearest % cells)
    return (in_q * in_k).float().mean()

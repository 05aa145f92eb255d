"""The contrastive losses, as functions of L2-normalised features.

All compute in float32, also under autocast: at temperature 0.2 half precision would cost digits.
Each returns the loss and an accuracy, on the features' device.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cp2.models.devices import full_precision


def info_nce(q: Tensor, k: Tensor, queue: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE with one positive and a queue of negatives (MoCo Eq. 1; CP² Eq. 3).

    Args:
        q, k: unit vectors (N, D); q's gradient is wanted, k and queue have none.
        queue: unit columns (D, K).

    Returns:
        Mean cross-entropy, and the share of queries whose own key is the nearest of 1 + K.
    """
    with full_precision(q.device):
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
    """Every foreground position of the query is pulled to every one of the key of the same image.

    With s_xy = q_x . k_y and foregrounds Fq, Fk, an image's loss is the mean over x in Fq, y in Fk
    of -log softmax(s / temperature)_xy. As the positives' mean is the product of the mean vectors,
    it is mean over x of logsumexp_y(s_xy / temperature) minus mean_q . mean_k / temperature.

    Args:
        q, k: unit vectors (N, D, h, w).
        mask_q, mask_k: (N, 1, h, w) in {0, 1}, with one foreground position at least.
        axis: what the softmax runs over. "key": all of the key's positions (CP² Eq. 2).
            "query": all of the query's (released code).

    Returns:
        The mean over images, and the share of images whose most similar pair of positions is one
        of foregrounds ("Acc_seg" of the released code).
    """
    with full_precision(q.device):
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
    """Weight of each position in a mean over the foreground: (N, 1, h, w) to (N, P)."""
    inside = mask.float().flatten(1)
    return inside / inside.sum(1, keepdim=True)


def _nearest_is_foreground(similarity: Tensor, mask_q: Tensor, mask_k: Tensor) -> Tensor:
    positions = similarity.shape[2]
    nearest = similarity.flatten(1).argmax(1, keepdim=True)
    in_q = mask_q.flatten(1).gather(1, nearest // positions)
    in_k = mask_k.flatten(1).gather(1, nearest % positions)
    return (in_q * in_k).float().mean()


class _LogSumExpOfQueue(torch.autograd.Function):
    """log sum_j exp(q_i . k_j / t), whose gradient is made along with it, some rows at a time.

    The gradient sum_j p_ij k_j / t is as small as q itself, so nothing is kept of the logits, and
    nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, queue: Tensor, temperature: float, rows: int
    ) -> tuple[Tensor, Tensor]:
        gradient = torch.empty_like(q) if ctx.needs_input_grad[0] else None
        values, nearest = q.new_empty(len(q)), q.new_empty(len(q))
        for first in range(0, len(q), rows):
            part = slice(first, first + rows)
            logits = q[part] @ queue
            torch.amax(logits, 1, out=nearest[part])
            weights = logits.sub_(nearest[part, None]).div_(temperature).exp_()
            total = weights.sum(1)
            values[part] = total.log() + nearest[part] / temperature
            if gradient is not None:
                mean = torch.mm(weights, queue.T)
                torch.div(mean, total[:, None] * temperature, out=gradient[part])
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(nearest)
        return values, nearest

    @staticmethod
    def backward(ctx: Any, incoming: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * incoming[:, None], None, None, None


def log_sum_exp_of_queue(
    q: Tensor, queue: Tensor, temperature: float, rows: int
) -> tuple[Tensor, Tensor]:
    """The negatives' share of InfoNCE's denominator.

    Args:
        q: unit vectors (R, D), with or without gradient.
        queue: unit columns (D, K), without gradient.
        rows: how many queries' similarities, K numbers each, are in memory at a time.

    Returns:
        log sum_j exp(q_i . k_j / temperature), (R,), and the largest q_i . k_j, (R,), which has no
        gradient.
    """
    values, nearest = _LogSumExpOfQueue.apply(q, queue, temperature, rows)
    return values, nearest


def chunked_info_nce(
    q: Tensor, k: Tensor, queue: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """InfoNCE of each pair of positions against a queue (DenseCL Eq. 2).

    As many rows at a time as there are images: no more logits than MoCo's own loss has.

    Args:
        q, k: unit vectors (N, D, P); position p of q belongs to position p of k.
        queue: unit columns (D, K).

    Returns:
        Loss of each query position, (N, P), and whether its own key is the nearest of 1 + K,
        (N, P).
    """
    with full_precision(q.device):
        q, k = q.float(), k.float()
        positive = torch.einsum("ndp,ndp->np", q, k)
        rows = q.transpose(1, 2).flatten(0, 1)
        values, nearest = log_sum_exp_of_queue(rows, queue.float(), temperature, len(q))
        scaled = positive / temperature
        losses = torch.logaddexp(values.view_as(scaled), scaled) - scaled
        hits = positive.detach() > nearest.view_as(positive)
    return losses, hits.float()

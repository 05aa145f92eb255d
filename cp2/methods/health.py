"""How a training fares, from the unit vectors of one batch: a collapse shows here first."""

import torch
from torch import Tensor


@torch.no_grad()
def health(q: Tensor, k: Tensor, queue: Tensor | None, temperature: float) -> dict[str, Tensor]:
    """Figures of a batch, all scalars.

    deviation: of the queries' entries over the batch, mean over the dimensions, times sqrt(D): 1
    for vectors that are spread over the sphere, 0 for equal ones (SimSiam, sec. 4.1).
    alignment, uniformity: mean |q - k|^2 of the pairs, and log of the mean exp(-2 |q - q'|^2) over
    pairs of other images (Wang and Isola 2020); lower is better.
    dead_keys: share of the queue's keys that no query gives a tenth of their even share of the
    softmax: negatives from which nothing is learnt.

    Args:
        q, k: unit vectors (N, D) of query and key views.
        queue: unit columns (D, K); None: the method has none.
    """
    q, k = q.float(), k.float()
    distances = torch.pdist(q).square()
    found = {
        "deviation": q.std(0).mean() * q.shape[1] ** 0.5,
        "alignment": (q - k).square().sum(1).mean(),
        "uniformity": distances.mul(-2).exp().mean().log(),
    }
    if queue is not None:
        shares = torch.softmax(q @ queue.float() / temperature, 1).amax(0)
        found["dead_keys"] = (shares < 0.1 / queue.shape[1]).float().mean()
    return {f"health/{name}": value for name, value in found.items()}

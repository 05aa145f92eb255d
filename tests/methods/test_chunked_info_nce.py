"""The chunked dense loss against plain cross-entropy over all logits at once."""

import pytest
import torch
from torch.nn import functional as F

from cp2.methods.losses import chunked_info_nce, log_sum_exp_of_queue


def unit(*shape, dtype=torch.float64):
    return F.normalize(torch.randn(*shape, dtype=dtype), dim=1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_values_and_gradients_do_not_depend_on_the_chunks(temperature, rows):
    raw, queue = unit(7, 6), unit(6, 13)
    weight = torch.randn(7, dtype=torch.float64)
    results = []
    for chunked in (True, False):
        q = raw.clone().requires_grad_()
        if chunked:
            values, nearest = log_sum_exp_of_queue(q, queue, temperature, rows)
        else:
            values, nearest = (q @ queue / temperature).logsumexp(1), (q @ queue).amax(1)
        (values * weight).sum().backward()
        results.append((values, nearest, q.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_gradcheck():
    q = unit(5, 4).requires_grad_()
    queue = unit(4, 9)
    assert torch.autograd.gradcheck(lambda x: log_sum_exp_of_queue(x, queue, 0.2, 2)[0], q)


def test_without_gradient_none_is_made():
    values, nearest = log_sum_exp_of_queue(unit(5, 4), unit(4, 9), 0.2, 2)
    assert not values.requires_grad
    assert not nearest.requires_grad


def test_cold_similarities_do_not_overflow():
    q = F.normalize(torch.ones(2, 4), dim=1)
    values, _ = log_sum_exp_of_queue(q, q.T.contiguous(), 1e-3, 1)
    torch.testing.assert_close(values, torch.full((2,), 1000.0 + torch.tensor(2.0).log().item()))


def test_paired_loss_against_cross_entropy():
    q, k, queue = unit(3, 6, 5), unit(3, 6, 5), unit(6, 11)
    losses, hits = chunked_info_nce(q, k, queue, 0.2)
    for n in range(3):
        for p in range(5):
            query = q[n, :, p]
            logits = torch.cat([(query @ k[n, :, p])[None], query @ queue]) / 0.2
            expected = F.cross_entropy(logits[None], torch.tensor([0]))
            assert losses[n, p].item() == pytest.approx(expected.item(), rel=1e-5)
            assert hits[n, p].item() == (logits.argmax() == 0)


def test_the_loss_is_float32_under_autocast():
    q, k, queue = unit(2, 8, 4).float(), unit(2, 8, 4).float(), unit(8, 5).float()
    plain, _ = chunked_info_nce(q, k, queue, 0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = chunked_info_nce(q, k, queue, 0.2)
    assert mixed.dtype == torch.float32
    assert torch.equal(plain, mixed)

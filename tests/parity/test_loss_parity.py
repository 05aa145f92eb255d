"""Losses, gradient and queue against numbers made with the authors' released code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cp2.methods.losses import dense_loss, info_nce, masked_average
from cp2.methods.momentum import KeyQueue

GOLDEN = Path(__file__).parent / "golden" / "cp2_losses.npz"


@pytest.fixture
def golden():
    with np.load(GOLDEN) as data:
        return {name: torch.from_numpy(np.array(data[name])) for name in data.files}


@pytest.fixture
def features(golden):
    q = golden["q"].requires_grad_()
    masks = golden["mask_q"][:, None], golden["mask_k"][:, None]
    return F.normalize(q, dim=1), F.normalize(golden["k"], dim=1), *masks


def test_instance_loss(golden, features):
    q, k, mask_q, mask_k = features
    loss, _ = info_nce(masked_average(q, mask_q), masked_average(k, mask_k), golden["queue"], 0.2)
    torch.testing.assert_close(loss.double(), golden["loss_ins"], rtol=1e-5, atol=0)


def test_dense_loss_over_queries_is_the_released_codes(golden, features):
    loss, _ = dense_loss(*features, temperature=1.0, axis="query")
    torch.testing.assert_close(loss.double(), golden["loss_dense_query_axis"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0, 2.0])
def test_dense_loss_over_keys_is_the_papers(golden, features, temperature):
    loss, _ = dense_loss(*features, temperature=temperature, axis="key")
    expected = golden[f"loss_dense_key_axis_tau{temperature}"]
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)


def test_gradient_of_the_total(golden, features):
    q, k, mask_q, mask_k = features
    average_q, average_k = masked_average(q, mask_q), masked_average(k, mask_k)
    instance, _ = info_nce(average_q, average_k, golden["queue"], 0.2)
    dense, _ = dense_loss(q, k, mask_q, mask_k, 1.0, "query")
    (instance + 0.2 * dense).backward()
    expected = golden["grad_q_total"]
    difference = golden["q"].grad - expected
    assert difference.norm() <= 1e-4 * expected.norm()
    torch.testing.assert_close(golden["q"].grad, expected, rtol=1e-3, atol=1e-7)


def test_queue_wraps_as_in_the_released_code(golden, features):
    _, k, _, mask_k = features
    keys = KeyQueue(16, 64)
    keys.queue.copy_(golden["queue"])
    keys.queue_ptr.copy_(golden["queue_ptr"])
    keys.enqueue(masked_average(k, mask_k))
    torch.testing.assert_close(keys.queue, golden["queue_after"], rtol=1e-5, atol=1e-6)
    assert keys.queue_ptr.item() == golden["ptr_after"]

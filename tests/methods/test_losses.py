import math

import pytest
import torch
from torch.nn import functional as F

from cp2.methods.losses import dense_loss, info_nce, masked_average


def unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=1)


def slow_dense_loss(q, k, mask_q, mask_k, temperature, axis):
    """Sum over all pairs, as CP² Eq. 2 (axis key) or the released code (axis query) has it."""
    total = 0.0
    for n in range(len(q)):
        cells_q, cells_k = q[n].flatten(1).T, k[n].flatten(1).T
        pairs = []
        for x, query in enumerate(cells_q):
            for y, key in enumerate(cells_k):
                if mask_q[n].flatten()[x] and mask_k[n].flatten()[y]:
                    if axis == "key":
                        others = torch.stack([query @ other for other in cells_k])
                    else:
                        others = torch.stack([other @ key for other in cells_q])
                    exponentials = (others / temperature).exp().sum()
                    pairs.append(-torch.log((query @ key / temperature).exp() / exponentials))
        total = total + torch.stack(pairs).mean()
    return total / len(q)


@pytest.mark.parametrize("axis", ["key", "query"])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_dense_loss_and_gradient_against_the_double_sum(axis, temperature, share):
    torch.manual_seed(0)
    raw = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    k = unit(2, 5, 3, 4)
    masks = [(torch.rand(2, 1, 3, 4) < share).double() for _ in range(2)]
    for mask in masks:
        mask[:, :, 1, 2] = 1  # share 0: a single cell
    gradients, values = [], []
    for loss in (dense_loss, slow_dense_loss):
        leaf = raw.clone().requires_grad_()
        result = loss(F.normalize(leaf, dim=1), k, *masks, temperature, axis)
        value = result[0] if isinstance(result, tuple) else result
        value.backward()
        values.append(value.item())
        gradients.append(leaf.grad)
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("axis", ["key", "query"])
def test_which_background_cells_get_a_gradient(axis):
    """Over keys: none in the background of q. Over queries: they are pushed off the positives."""
    raw = torch.randn(2, 8, 4, 4, requires_grad=True)
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 1
    loss, _ = dense_loss(F.normalize(raw, dim=1), unit(2, 8, 4, 4), mask, mask, 1.0, axis)
    loss.backward()
    background = raw.grad[:, :, 2:].abs().amax()
    assert (background == 0) if axis == "key" else (background > 1e-5)


@pytest.mark.parametrize(
    ("background_cosine", "expected"), [(1.0, math.log(196)), (0.0, 5.031), (-1.0, 4.921)]
)
def test_dense_loss_of_perfect_separation(background_cosine, expected):
    """128 of 196 foreground cells at temperature 1: the loss moves by a few tenths only."""
    mask = torch.zeros(1, 1, 14, 14)
    mask.view(-1)[:128] = 1
    foreground = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    background = torch.tensor([background_cosine, math.sqrt(1 - background_cosine**2)])
    features = foreground * mask + background.view(1, 2, 1, 1) * (1 - mask)
    loss, _ = dense_loss(features, features, mask, mask, 1.0, "key")
    assert loss.item() == pytest.approx(expected, abs=1e-3)


def test_dense_accuracy_counts_images_whose_best_pair_is_foreground():
    mask_q, mask_k = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    mask_q[:, 0, 0, 1] = 1  # cell 1
    mask_k[:, 0, 1, 0] = 1  # cell 2
    q, k = torch.zeros(2, 4, 4), torch.zeros(2, 4, 4)
    q[:] = torch.eye(4)[0][:, None]
    k[:] = torch.eye(4)[1][:, None]
    q[0, :, 1] = k[0, :, 2] = torch.eye(4)[2]  # image 0: the foreground pair agrees
    q[1, :, 1] = k[1, :, 3] = torch.eye(4)[2]  # image 1: a background key does
    _, accuracy = dense_loss(q.view(2, 4, 2, 2), k.view(2, 4, 2, 2), mask_q, mask_k, 1.0, "key")
    assert accuracy.item() == 0.5


def test_info_nce_against_cross_entropy():
    q, k, queue = unit(7, 16), unit(7, 16), unit(16, 33)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue], 1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(7, dtype=torch.long))
    loss, accuracy = info_nce(q, k, queue, 0.2)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert accuracy.item() == pytest.approx((logits.argmax(1) == 0).float().mean().item())


def test_info_nce_of_random_features_is_the_log_of_the_choices():
    loss, accuracy = info_nce(unit(64, 128), unit(64, 128), unit(65536, 128).T, 0.2)
    assert loss.item() == pytest.approx(math.log(65537), abs=0.3)
    assert accuracy.item() < 0.1


def test_masked_average():
    features, mask = unit(2, 3, 2, 2), torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]])
    average = masked_average(features, mask.view(2, 1, 2, 2))
    expected = features[0, :, 0, 0] + features[0, :, 1, 1]
    torch.testing.assert_close(average[0].double(), expected / expected.norm(), atol=1e-6, rtol=0)
    torch.testing.assert_close(average[1].double(), features[1, :, 0, 1], atol=1e-6, rtol=0)


def test_losses_stay_in_single_precision_under_autocast():
    q, mask, queue = unit(2, 8, 2, 2).float(), torch.ones(2, 1, 2, 2), unit(5, 8).T.float()

    def losses():
        instance, _ = info_nce(q[:, :, 0, 0], q[:, :, 0, 1], queue, 0.2)
        dense, _ = dense_loss(q, q, mask, mask, 0.2, "key")
        return instance, dense

    plain = losses()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = losses()
    assert mixed[0].dtype == mixed[1].dtype == torch.float32
    assert mixed == plain

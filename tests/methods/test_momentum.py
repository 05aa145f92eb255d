import pytest
import torch
from torch import nn

from cp2.methods.momentum import MomentumPair


def encoder():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(6, 5))


def test_the_key_encoder_starts_as_a_separate_copy_without_gradient():
    pair = MomentumPair(encoder())
    for key, query in zip(pair.key.parameters(), pair.query.parameters(), strict=True):
        assert torch.equal(key, query)
        assert key.data_ptr() != query.data_ptr()
        assert query.requires_grad
        assert not key.requires_grad


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999, 1.0])
def test_update_averages_parameters(momentum):
    pair = MomentumPair(encoder())
    with torch.no_grad():
        for query in pair.query.parameters():
            query.normal_()
    expected = [
        momentum * key + (1 - momentum) * query
        for key, query in zip(pair.key.parameters(), pair.query.parameters(), strict=True)
    ]
    pair.update(momentum)
    for key, value in zip(pair.key.parameters(), expected, strict=True):
        torch.testing.assert_close(key, value, atol=1e-6, rtol=0)


def test_update_leaves_batch_norm_statistics_alone():
    pair = MomentumPair(encoder())
    pair.query[1].running_mean.fill_(3)
    before = pair.key[1].running_mean.clone()
    pair.update(0.5)
    assert torch.equal(pair.key[1].running_mean, before)

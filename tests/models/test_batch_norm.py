"""Batch norm over groups, against a loop over the groups with plain batch norm."""

import copy

import pytest
import torch
from torch import distributed, nn
from two_processes import on_two

from cp2.errors import UserError
from cp2.models.batch_norm import (
    GroupedBatchNorm,
    SharedBatchNorm,
    average_statistics,
    group_batch_norm,
    settle,
)

CHANNELS, SIZE = 3, 4


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.BatchNorm2d(CHANNELS, momentum=0.3))
    nn.init.uniform_(net[1].weight)
    nn.init.uniform_(net[1].bias)
    return net


def images(count):
    generator = torch.Generator().manual_seed(1)
    scale = torch.arange(1.0, count + 1)[:, None, None, None]
    return scale * torch.randn(count, CHANNELS, SIZE, SIZE, generator=generator) + scale


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_groups_against_a_loop(memory, micro_batches):
    batch = images(8).to(memory_format=memory).requires_grad_()
    plain, norm = network(), group_batch_norm(network(), 8, 2, micro_batches)
    assert isinstance(norm[1], GroupedBatchNorm)
    before = norm[1].running_mean.clone()
    found = torch.cat([norm(part) for part in batch.chunk(micro_batches)])
    assert torch.equal(norm[1].running_mean, before)  # until the step is settled
    settle(norm, micro_batches)
    weight = torch.randn(found.shape)
    gradients = torch.autograd.grad((found * weight).sum(), [batch, *norm.parameters()])

    outputs, means, variances = [], [], []
    for group in batch.split(2):
        features = plain[0](group)
        mean, var = features.mean((0, 2, 3)), features.var((0, 2, 3), correction=0)
        spread = [value[None, :, None, None] for value in (mean, var)]
        normal = (features - spread[0]) / (spread[1] + 1e-5).sqrt()
        outputs.append(normal * plain[1].weight.view(-1, 1, 1) + plain[1].bias.view(-1, 1, 1))
        means.append(mean)
        variances.append(features.var((0, 2, 3)))
    expected = torch.cat(outputs)
    wanted = torch.autograd.grad((expected * weight).sum(), [batch, *plain.parameters()])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(norm[1].running_mean, 0.3 * torch.stack(means).mean(0))
    torch.testing.assert_close(norm[1].running_var, 0.7 + 0.3 * torch.stack(variances).mean(0))
    assert norm[1].num_batches_tracked == 1


def test_evaluation_uses_the_running_statistics():
    plain, norm = network(), group_batch_norm(network(), 4, 2)
    for net in (plain, norm):
        net[1].running_mean.fill_(0.5)
        net.eval()
    assert torch.equal(norm(images(3)), plain(images(3)))


def test_names_and_parameters_stay():
    net = network()
    kept = dict(net.named_parameters())
    norm = group_batch_norm(net, 4, 2)
    assert dict(norm.named_parameters()).keys() == kept.keys()
    assert all(parameter is kept[name] for name, parameter in norm.named_parameters())
    assert norm.state_dict().keys() == network().state_dict().keys()
    norm.load_state_dict(copy.deepcopy(network().state_dict()))


@pytest.mark.parametrize("group", [None, 4, 64])
def test_one_group_stays_plain(group):
    assert type(group_batch_norm(network(), 4, group)[1]) is nn.BatchNorm2d


@pytest.mark.parametrize(
    ("batch", "group", "micro", "message"),
    [
        (8, None, 2, "groups of 8 images .* 1 process.* in 2 micro-batches, which are 4 at a time"),
        (8, 4, 4, "groups of 4 images .* which are 2 at a time"),
        (12, 4, 2, "bn_group_size that divides 6"),
        (9, 3, 2, "batch_size 9 cannot be shared evenly by 1 processes x 2 micro-batches"),
    ],
)
def test_what_would_change_the_numbers_is_refused(batch, group, micro, message):
    with pytest.raises(UserError, match=message):
        group_batch_norm(network(), batch, group, micro)


def test_without_batch_norm_everything_fits():
    net = nn.Linear(2, 2)
    assert group_batch_norm(net, 8, None, 4) is net


def work(rank, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    part = images(8).chunk(2)[rank].requires_grad_()
    shared = group_batch_norm(network(), 8, None)
    assert isinstance(shared[1], SharedBatchNorm)
    (shared(part) * torch.linspace(0, 1, 8)[:, None, None, None].chunk(2)[rank]).sum().backward()
    apart = group_batch_norm(network(), 8, 2)
    apart(part)
    settle(apart, 1)
    average_statistics(apart)
    uneven = {}
    for first in (5, 8):
        norm = group_batch_norm(nn.Sequential(nn.BatchNorm1d(CHANNELS)), 8, None)
        rows = images(8).mean((2, 3)).split([first, 8 - first])[rank].requires_grad_()
        weight = torch.linspace(0, 1, 8)[:, None].split([first, 8 - first])[rank]
        (norm(rows).square() * weight).sum().backward()
        uneven[first] = rows.grad, norm.state_dict()
    torch.save(uneven, folder / f"uneven{rank}.pt")
    gradients = [parameter.grad for parameter in shared.parameters()]
    result = {"gradients": gradients, "input": part.grad, "shared": shared.state_dict()}
    torch.save(result | {"apart": apart.state_dict()}, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_a_group_on_two_processes(tmp_path):
    on_two(work, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    batch = images(8).requires_grad_()
    whole, apart = network(), group_batch_norm(network(), 8, 2)
    (whole(batch) * torch.linspace(0, 1, 8)[:, None, None, None]).sum().backward()
    apart(batch)
    settle(apart, 1)
    found = torch.cat([first["input"], second["input"]])
    torch.testing.assert_close(found, batch.grad, atol=1e-5, rtol=1e-4)
    for ours, others, parameter in zip(
        first["gradients"], second["gradients"], whole.parameters(), strict=True
    ):
        torch.testing.assert_close(ours + others, parameter.grad, atol=1e-3, rtol=1e-4)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(first["shared"][name], value, msg=name)
        assert torch.equal(first["shared"][name], second["shared"][name])
    for name, value in apart.state_dict().items():
        torch.testing.assert_close(first["apart"][name], value, msg=name)
    for rows in (5, 8):
        (one, state), (other, _) = (
            torch.load(tmp_path / f"uneven{rank}.pt")[rows] for rank in range(2)
        )
        batch, norm = images(8).mean((2, 3)).requires_grad_(), nn.Sequential(nn.BatchNorm1d(3))
        (norm(batch).square() * torch.linspace(0, 1, 8)[:, None]).sum().backward()
        torch.testing.assert_close(torch.cat([one, other]), batch.grad, atol=1e-5, rtol=1e-4)
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(state[name], value, msg=name)

"""Shuffled keys against a loop over the groups."""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from cp2.augment.pipeline import PreparedBatch
from cp2.drawing.counters import KEY_SHUFFLE
from cp2.methods.registry import build_method
from cp2.methods.step import Step
from cp2.settings.methods import MoCoV2Settings

BATCH, GROUP, DIM = 8, 2, 4


def settings(**changes):
    values = {"batch_size": BATCH, "bn_group_size": GROUP, "dim": DIM, "queue_size": 20}
    return MoCoV2Settings(
        kind="moco-v2", name="t", title="", optimizer={}, momentum=1.0, **{**values, **changes}
    )


def encoder():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, DIM, 1), nn.BatchNorm2d(DIM), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(DIM, DIM))


def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, 3, 4, 4, generator=generator) * torch.arange(1, BATCH + 1).view(
        -1, 1, 1, 1
    )


def encoded(settings, micro_batches=1):
    """The keys, and the permutation that they were shuffled with."""
    method = build_method(settings, encoder(), micro_batches)
    batch = PreparedBatch(images(), images(), None, None, torch.zeros(BATCH, 2, 5).long())
    step = Step(3, 10, seed=5)
    (keys,) = method.before_step(batch, step)
    return keys["image"], torch.from_numpy(step.generator(KEY_SHUFFLE).permutation(BATCH))


def in_groups(order):
    """Each group of the shuffled batch by itself, and every key back in its image's place."""
    plain, keys = encoder(), torch.empty(BATCH, DIM)
    for group in order.split(GROUP):
        keys[group] = F.normalize(copy.deepcopy(plain)(images()[group]), dim=1).detach()
    return keys


def test_every_key_is_normalised_in_its_shuffled_group():
    found, order = encoded(settings())
    torch.testing.assert_close(found, in_groups(order))
    assert (found - in_groups(torch.arange(BATCH))).abs().max() > 0.01


def test_micro_batches_are_parts_of_the_shuffled_batch():
    found, order = encoded(settings(), micro_batches=2)
    torch.testing.assert_close(found, in_groups(order))


def test_unshuffled_keys_keep_their_neighbours():
    found, _ = encoded(settings(key_bn="none"))
    torch.testing.assert_close(found, in_groups(torch.arange(BATCH)))


def test_synchronised_keys_see_the_whole_batch():
    found, _ = encoded(settings(key_bn="sync"))
    expected = F.normalize(encoder()(images()), dim=1)
    torch.testing.assert_close(found, expected)

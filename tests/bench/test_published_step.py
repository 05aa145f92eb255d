"""The published step is an oracle, too: from the same weights and images, the same losses."""

import pytest
import tiny
import torch

from benchmarks.published_pretraining import PublishedCp2, published_optimizer, published_update
from cp2.augment.copy_paste import compose
from cp2.augment.pipeline import PreparedBatch
from cp2.methods.registry import build_method
from cp2.methods.step import Step
from cp2.models.backbones import build_backbone
from cp2.models.encoders import DenseEncoder, DenseProjection
from cp2.models.heads import build_head
from cp2.settings.methods import Cp2Settings
from cp2.settings.models import AsppSettings
from cp2.settings.optimization import AdamWSettings, SgdSettings
from cp2.training.optimizers import build_optimizer

N, SIZE = 4, 64
SGD = SgdSettings(kind="sgd", lr=0.05, momentum=0.9, weight_decay=1e-4)
ADAMW = AdamWSettings(kind="adamw", lr=1e-3, weight_decay=0.01)


def settings(**changes):
    tree = {
        "name": "cp2",
        "title": "",
        "kind": "cp2",
        "batch_size": N,
        "views": {"crop_size": SIZE},
        "queue_size": 10,
        "momentum": 0.9,
        "key_bn": "none",
        "optimizer": {},
    }
    return Cp2Settings.model_validate(tree | changes)


def encoder():
    backbone = build_backbone(tiny.resnet())
    head = build_head(
        AsppSettings(kind="aspp", name="tiny", title="", channels=8, dilations=(1, 2)),
        backbone.channels,
    )
    return DenseEncoder(backbone, head, DenseProjection(8, 128))


def batch(step):
    """Views, and backgrounds whose rectangle of zeros is the foreground's place."""
    rng = torch.Generator().manual_seed(step)
    views = torch.randn(4, N, 3, SIZE, SIZE, generator=rng)
    masks = torch.zeros(2, N, 1, SIZE, SIZE)
    for i in range(N):
        masks[0, i, :, 4 * i : 40 + 4 * i, 10:50] = 1
        masks[1, i, :, 5:45, 3 * i : 30 + 3 * i] = 1
    return views, masks


@pytest.mark.parametrize("axis", ["key", "query"])
# Where a gradient is nearly 0, AdamW's step has the sign of its rounding.
@pytest.mark.parametrize(("optimizer", "tolerance"), [(SGD, 2e-5), (ADAMW, 2e-3)])
def test_three_steps_give_our_losses_keys_and_weights(axis, optimizer, tolerance):
    chosen = settings(dense_softmax_axis=axis, dense_temperature=0.5, dense_weight=0.7)
    torch.manual_seed(0)
    start = encoder()
    ours = build_method(chosen, start).train()
    theirs = PublishedCp2(chosen, encoder()).train()
    theirs.query.load_state_dict(start.state_dict())
    theirs.key.load_state_dict(start.state_dict())
    theirs.queue.copy_(ours.objective.queue())
    update = build_optimizer(optimizer, ours)
    plain = published_optimizer(optimizer, theirs)
    for step in range(3):
        views, masks = batch(step)
        erased = [views[2 + side] * (1 - masks[side]) for side in range(2)]
        expected = published_update(theirs(views[0], views[1], *erased), plain)

        images = [compose(views[side], views[2 + side], masks[side]) for side in range(2)]
        pair = PreparedBatch(*images, *masks, torch.zeros(N, 2, 5).long())
        now = Step(step, 3, seed=0)
        keys = ours.before_step(pair, now)
        terms = ours(pair, keys, now)
        update.zero_grad()
        terms["loss"].backward()
        update.step()
        ours.after_step(pair, keys, now)
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(
            expected, abs=tolerance
        )
    assert torch.allclose(
        ours.objective.queue(), theirs.queue, atol=tolerance
    )  # 12 keys in 10 places
    key = dict(theirs.key.named_parameters())
    for name, parameter in ours.encoders.key.named_parameters():
        assert torch.allclose(parameter, key[name], atol=tolerance), name


def test_the_published_hole_is_found_from_the_erased_pixels():
    views, masks = batch(0)
    method = PublishedCp2(settings(), encoder())
    seen = []
    method.query.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method(views[0], views[1], views[2] * (1 - masks[0]), views[3] * (1 - masks[1]))
    assert torch.equal(seen[0], compose(views[0], views[2], masks[0]))


@pytest.mark.parametrize(("n", "rounds"), [(4, 3), (5, 4), (10, 2), (13, 2)])
def test_the_queue_is_a_ring(n, rounds):
    method = PublishedCp2(settings(), encoder())
    expected, place = method.queue.clone(), 0
    for step in range(rounds):
        keys = torch.randn(n, method.queue.shape[0], generator=torch.Generator().manual_seed(step))
        method._enqueue(keys)
        for key in keys:
            expected[:, place % 10] = key
            place += 1
        assert torch.equal(method.queue, expected)
        assert int(method.queue_ptr) == place % 10

import copy

import pytest
import torch
from torch import nn

from cp2.augment.pipeline import PreparedBatch
from cp2.errors import UserError
from cp2.methods.registry import build_method
from cp2.methods.shuffle_bn import bn_note
from cp2.methods.step import Step
from cp2.settings.methods import Cp2Settings, MoCoV2Settings

DIM, QUEUE, BATCH, SIZE = 8, 20, 6, 32
FIRST = Step(0, 10, 0)


def cp2_settings(**changes):
    values = {"dim": DIM, "queue_size": QUEUE, "optimizer": {}, "title": "", "name": "t"}
    return Cp2Settings(kind="cp2", **{**values, **changes})


def moco_settings(**changes):
    values = {"dim": DIM, "queue_size": QUEUE, "optimizer": {}, "title": "", "name": "t"}
    return MoCoV2Settings(kind="moco-v2", **{**values, **changes})


def dense_encoder():
    return nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, DIM, 1))


def global_encoder():
    return nn.Sequential(dense_encoder(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def step(method, images_q, images_k, mask_q=None, mask_k=None):
    """All of a step but the optimiser."""
    batch = PreparedBatch(images_q, images_k, mask_q, mask_k, torch.zeros(BATCH, 2, 5).long())
    keys = method.before_step(batch, FIRST)
    terms = method(batch, keys, FIRST)
    terms["loss"].backward()
    method.after_step(batch, keys, FIRST)
    return terms


def inputs():
    images = torch.randn(2, BATCH, 3, SIZE, SIZE)
    masks = torch.zeros(2, BATCH, 1, SIZE, SIZE)
    masks[:, :, :, 3:27, 2:25] = 1
    return images[0], images[1], masks[0], masks[1]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("settings", "encoder"),
    [(cp2_settings(), dense_encoder), (moco_settings(), global_encoder)],
    ids=["cp2", "moco-v2"],
)
def test_a_step(settings, encoder):
    method = build_method(settings, encoder())
    method.encoders.query.requires_grad_(True)
    before = copy.deepcopy(method)
    with torch.no_grad():
        for parameter in method.encoders.query.parameters():
            parameter.add_(0.1)
    terms = step(method, *inputs())

    assert all(torch.isfinite(value) for value in terms.values())
    assert [name for name, value in terms.items() if value.requires_grad] == ["loss"]
    assert all(p.grad is None for p in method.encoders.key.parameters())
    assert any(p.grad.abs().sum() > 0 for p in method.encoders.query.parameters())
    # The key encoder moved by the momentum before it was used, and by nothing else.
    for key, old, query in zip(
        method.encoders.key.parameters(),
        before.encoders.key.parameters(),
        method.encoders.query.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(key, 0.999 * old + 0.001 * query, atol=1e-6, rtol=0)
    assert method.objective.queues["queue"].queue_ptr.item() == BATCH
    torch.testing.assert_close(method.objective.queue().norm(dim=0), torch.ones(QUEUE))
    assert not torch.equal(method.objective.queue()[:, :BATCH], before.objective.queue()[:, :BATCH])
    assert torch.equal(method.objective.queue()[:, BATCH:], before.objective.queue()[:, BATCH:])
    statistics = [e.state_dict() for e in (method.encoders.query, method.encoders.key)]
    means = [next(v for n, v in s.items() if n.endswith("running_mean")) for s in statistics]
    assert not torch.equal(*means)


def test_cp2_terms_add_up():
    method = build_method(cp2_settings(dense_weight=0.7), dense_encoder())
    terms = step(method, *inputs())
    expected = terms["loss_instance"] + 0.7 * terms["loss_dense"]
    torch.testing.assert_close(terms["loss"].detach(), expected)


def test_cp2_without_dense_weight_has_the_gradient_of_the_instance_loss():
    encoder = dense_encoder()
    both = [build_method(cp2_settings(dense_weight=w), copy.deepcopy(encoder)) for w in (0.0, 0.2)]
    batch = inputs()
    gradients = []
    for method in both:
        torch.manual_seed(1)
        method.objective.queue().copy_(both[0].objective.queue())
        step(method, *batch)
        gradients.append(method.encoders.query[3].weight.grad)
    assert torch.isfinite(gradients[0]).all()
    assert not torch.allclose(*gradients)


def test_cp2_with_full_masks_and_both_axes():
    images_q, images_k, *_ = inputs()
    ones = torch.ones(BATCH, 1, SIZE, SIZE)
    for axis in ("key", "query"):
        method = build_method(cp2_settings(dense_softmax_axis=axis), dense_encoder())
        terms = step(method, images_q, images_k, ones, ones)
        assert torch.isfinite(terms["loss"])
        assert terms["accuracy_dense"] == 1


def test_cp2_equal_images_are_recognised():
    images, _, mask, _ = inputs()
    terms = step(build_method(cp2_settings(), dense_encoder()), images, images, mask, mask)
    assert terms["accuracy_instance"] == 1


def test_cp2_feature_maps_that_do_not_divide_the_crop():
    method = build_method(cp2_settings(), nn.Conv2d(3, DIM, 3, 7, 1))
    with pytest.raises(UserError, match=r"crop_size 32 .* 5 x 5 .* multiple"):
        step(method, *inputs())


def test_keys_of_the_step_are_no_negatives_of_it():
    method = build_method(moco_settings(), global_encoder())
    images_q, images_k, *_ = inputs()
    queue = method.objective.queue().clone()
    q = nn.functional.normalize(method.encoders.query(images_q), dim=1)
    k = nn.functional.normalize(method.encoders.key(images_k), dim=1)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue], 1) / 0.2
    expected = nn.functional.cross_entropy(logits, torch.zeros(BATCH, dtype=torch.long))
    torch.testing.assert_close(step(method, images_q, images_k)["loss"], expected)


def test_state_goes_on_after_a_restart():
    method = build_method(cp2_settings(), dense_encoder())
    step(method, *inputs())
    other = build_method(cp2_settings(), dense_encoder())
    other.load_state_dict(method.state_dict())
    batch = inputs()
    assert torch.equal(step(method, *batch)["loss"], step(other, *batch)["loss"])


@pytest.mark.parametrize(
    ("key_bn", "group", "noted"),
    [
        ("shuffle", None, True),
        ("shuffle", 256, True),
        ("sync", None, True),
        ("none", None, False),
        ("shuffle", 2, False),
        ("sync", 2, False),
    ],
)
def test_note_on_batch_norm(key_bn, group, noted):
    note = bn_note(cp2_settings(batch_size=6, key_bn=key_bn, bn_group_size=group))
    assert (note is not None) == noted
    if note is not None:
        assert note.startswith(f"key_bn: {key_bn} has no effect")

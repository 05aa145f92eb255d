"""MoCo v2+, DenseCL and PixCon: footing, lambda, weights, queues, refusals."""

import copy
import math

import pytest
import tiny
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cp2.augment.pipeline import PreparedBatch
from cp2.methods.densecl import batch_mean
from cp2.methods.matching import by_backbone
from cp2.methods.momentum import rising_momentum
from cp2.methods.pixcon import scaled_weights, semantic_weights, within_radius
from cp2.methods.registry import build_encoder, build_method
from cp2.methods.step import Step
from cp2.models.backbones import build_backbone
from cp2.models.batch_norm import GroupedBatchNorm
from cp2.settings.dense import DenseClSettings, PixConSettings
from cp2.settings.methods import PlainSettings

DIM, QUEUE, BATCH, SIZE = 8, 20, 4, 96
SMALL = {"dim": DIM, "queue_size": QUEUE, "batch_size": BATCH, "predictor_width": 16}
PLUS = {
    "symmetric": True,
    "predictor": True,
    "projector_norm": True,
    "momentum": 0.9,
    "momentum_end": 1.0,
    "key_bn": "none",
}
BACKBONE = tiny.resnet((4, 4, 4, 4), output_stride=32)
BOXES = torch.tensor([[[0, 0, 60, 60, n % 2], [10 * n, 7, 50, 40, 1]] for n in range(BATCH)])
FIRST = Step(0, 10, 0)


def settings(kind, **changes):
    model = {
        "densecl": DenseClSettings,
        "pixcon": PixConSettings,
        "moco-v2-plus": PlainSettings,
    }[kind]
    given = {"views": {"crop_size": SIZE}, "optimizer": {}, "title": "", "name": kind}
    return model.model_validate({"kind": kind, **given, **SMALL, **changes})


def build(chosen, micro_batches=1):
    torch.manual_seed(0)
    encoder = build_encoder(chosen, build_backbone(BACKBONE, zero_init_residual=False), None)
    return build_method(chosen, encoder, micro_batches).train()


def batch(seed=1):
    images = torch.randn(2, BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return PreparedBatch(images[0], images[1], None, None, BOXES)


def forward(method, pair=None, step=FIRST):
    pair = pair or batch()
    keys = method.before_step(pair, step)
    return method(pair, keys, step), keys


def queues(method):
    return {name: method.objective.queue(name).clone() for name in method.objective.queues}


EVERY = {
    "moco-v2-plus": settings("moco-v2-plus", **PLUS),
    "densecl": settings("densecl", bn_group_size=2),
    "densecl, random": settings("densecl", matching="random", grid=2),
    "densecl, projection": settings("densecl", matching="max-sim-projection", symmetric=True),
    "pixcon-sim": settings("pixcon", variant="sim", **PLUS),
    "pixcon-coord": settings("pixcon", variant="coord", **PLUS),
    "pixcon-sr": settings("pixcon", **PLUS),
    "pixcon-sr, similarity": settings("pixcon", overlap_rule=False, **PLUS),
}


@pytest.mark.parametrize("chosen", EVERY.values(), ids=EVERY)
def test_a_step(chosen):
    method = build(chosen)
    before = queues(method)
    pair, step = batch(), Step(4, 10, 0)
    keys = method.before_step(pair, step)
    terms = method(pair, keys, step)
    terms["loss"].backward()
    method.after_step(pair, keys, step)
    assert sorted(terms) == sorted(method.terms)
    assert all(torch.isfinite(value) for value in terms.values())
    assert [name for name, value in terms.items() if value.requires_grad] == ["loss"]
    for name, parameter in method.named_parameters():
        trained = not name.startswith("encoders.key.")
        assert (parameter.grad is not None) == trained, name
    for name, queue in queues(method).items():
        assert not torch.equal(queue[:, :BATCH], before[name][:, :BATCH])
        assert torch.equal(queue[:, BATCH:], before[name][:, BATCH:])
        torch.testing.assert_close(queue.norm(dim=0), torch.ones(QUEUE))


def test_a_symmetric_loss_is_the_sum_of_both_directions():
    plain = build(settings("densecl", key_bn="none"))
    both = build(settings("densecl", key_bn="none", symmetric=True))
    both.load_state_dict(plain.state_dict())
    pair = batch()
    terms, _ = forward(both, pair)
    one, _ = forward(plain, pair)
    other, _ = forward(plain, pair.swapped())
    torch.testing.assert_close(terms["loss"], one["loss"] + other["loss"])
    mean = (one["accuracy_dense"] + other["accuracy_dense"]) / 2
    torch.testing.assert_close(terms["accuracy_dense"], mean)


def test_a_symmetric_loss_can_be_the_mean_instead():
    total, mean = (
        build(settings("densecl", key_bn="none", symmetric=True, view_losses=how))
        for how in ("sum", "mean")
    )
    mean.load_state_dict(total.state_dict())
    terms, _ = forward(total)
    halved, _ = forward(mean)
    torch.testing.assert_close(halved["loss"], terms["loss"] / 2)
    torch.testing.assert_close(halved["loss_dense"], terms["loss_dense"])


@pytest.mark.parametrize("queue_view", ["key", "both", "random"])
def test_whose_keys_join_the_queues(queue_view):
    method = build(settings("moco-v2-plus", **PLUS, queue_view=queue_view))
    pair = batch()
    keys = method.before_step(pair, FIRST)
    joined = []
    for number in range(40):
        step = Step(number, 100, seed=3)
        method.objective.queues["queue"].queue_ptr.zero_()
        method.objective.queue().zero_()
        method.after_step(pair, keys, step)
        columns = [k["image"].T for k in keys]
        found = method.objective.queue()
        matches = [torch.equal(found[:, :BATCH], column) for column in columns]
        joined.append(matches.index(True))
        count = 2 * BATCH if queue_view == "both" else BATCH
        assert int((found.norm(dim=0) > 0).sum()) == count
    assert set(joined) == ({0, 1} if queue_view == "random" else {0})
    if queue_view == "random":
        assert 10 < sum(joined) < 30


def test_the_momentum_rises_by_a_cosine():
    for number in range(11):
        t = max(number - 1, 0) / 10  # the update after the step before
        expected = 1 - (1 - 0.99) * (math.cos(math.pi * t) + 1) / 2
        assert rising_momentum(0.99, 1.0, Step(number, 10, 0)) == pytest.approx(expected)
    assert rising_momentum(0.99, None, Step(7, 10, 0)) == 0.99


def test_the_key_encoder_follows_with_the_risen_momentum():
    method = build(settings("moco-v2-plus", **PLUS))
    before = copy.deepcopy(method)
    with torch.no_grad():
        for parameter in method.encoders.query.parameters():
            parameter.add_(0.1)
    step = Step(6, 10, 0)
    forward(method, step=step)
    m = rising_momentum(0.9, 1.0, step)
    for new, old in zip(
        method.encoders.key.parameters(), before.encoders.key.parameters(), strict=True
    ):
        torch.testing.assert_close(new, old + (1 - m) * 0.1, atol=1e-6, rtol=0)


def test_keys_see_no_predictor():
    chosen = settings("moco-v2-plus", **PLUS)
    method = build(chosen)
    _, (of_key_view, of_query_view) = forward(method)
    pair = batch()
    encoder = copy.deepcopy(method.encoders.key)
    for keys, images in ((of_key_view, pair.images_k), (of_query_view, pair.images_q)):
        torch.testing.assert_close(keys["image"], F.normalize(encoder(images), dim=1))


@pytest.mark.parametrize(("number", "share"), [(0, 0.0), (4, 0.0), (5, 0.7), (9, 0.7)])
def test_lambda_starts_after_its_warm_up(number, share):
    method = build(settings("densecl", loss_lambda=0.7, lambda_warmup_steps=5))
    terms, _ = forward(method, step=Step(number, 10, 0))
    expected = (1 - share) * terms["loss_instance"] + share * terms["loss_dense"]
    torch.testing.assert_close(terms["loss"].detach(), expected)


def test_a_grid_pools_backbone_and_cells():
    method = build(settings("densecl", grid=2))
    _, (keys,) = forward(method)
    assert keys["dense"].shape == (BATCH, DIM, 4)
    whole = method.encoders.key.backbone(batch().images_k)
    assert whole.shape[2:] == (3, 3)
    pooled = F.adaptive_avg_pool2d(whole, 2).flatten(2)
    torch.testing.assert_close(keys["map"], F.normalize(pooled, dim=1))


def test_the_dense_queue_gets_the_mean_of_raw_cells():
    method = build(settings("densecl"))
    _, (keys,) = forward(method)
    raw = method.encoders.key(batch().images_k).dense.flatten(2)
    expected = F.normalize(raw.mean(2), dim=1)
    torch.testing.assert_close(method.objective.entries(keys, None)["queue2"], expected)


def test_the_dense_queue_can_get_one_cell_of_each_image():
    method = build(settings("densecl", dense_queue="cell", matching="random"))
    joined = set()
    for number in range(6):
        _, (keys,) = forward(method, step=Step(number, 9, 1))
        found = method.objective.entries(keys, None)["queue2"]
        for n, cell in enumerate(keys["queued"].tolist()):
            assert torch.equal(found[n], keys["dense"][n, :, cell])
            joined.add(cell)
        assert "drawn" in keys
    assert len(joined) > 4
    again = method.before_step(batch(), Step(5, 9, 1))[0]["queued"]
    assert torch.equal(again, keys["queued"])


def test_the_backbones_map_is_kept_where_it_is_matched_only():
    for name, method in EVERY.items():
        if name != "moco-v2-plus":
            keys = build(method).before_step(batch(), FIRST)[0]
            reads = name not in ("densecl, random", "densecl, projection", "pixcon-coord")
            assert ("map" in keys) == reads, name


def test_rounded_edges_reach_the_weights():
    score = torch.full((1, 9), 0.5)
    score[0, 8] = 0.1
    # The second view ends at 2.7 of the first one's 3 rows of cells.
    views = torch.tensor([[[0, 0, 30, 30, 0], [0, 0, 27, 30, 0]]])
    inside = {
        edges: build(settings("pixcon", overlap_edges=edges)).objective.weigh(score, views)[0, 8]
        for edges in ("floor", "round")
    }
    assert inside == {"floor": 0, "round": 1}


def test_random_matches_are_a_function_of_the_step():
    method = build(settings("densecl", matching="random"))
    drawn = [
        method.before_step(batch(), step)[0]["drawn"]
        for step in (Step(3, 9, 1), Step(3, 9, 1), Step(4, 9, 1), Step(3, 9, 2))
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[3])
    assert drawn[0].shape == (BATCH, 9)


def test_densecl_with_every_step_is_pixcon_sim():
    one, other = build(settings("densecl", **PLUS)), build(EVERY["pixcon-sim"])
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(forward(one)[0], forward(other)[0])


def slow_scaled_weights(score, inside, power):
    weights = torch.ones_like(score)
    for n, row in enumerate(score):
        outer = [float(s) for s, i in zip(row, inside[n], strict=True) if not i]
        for cell, s in enumerate(row):
            if not inside[n, cell]:
                weights[n, cell] = ((s - row.min()) / (max(outer) - row.min())) ** power
    return weights


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_semantic_weights_against_a_loop(power):
    torch.manual_seed(0)
    score, inside = torch.rand(5, 9) * 2 - 1, torch.rand(5, 9) < 0.5
    inside[3], inside[4] = True, False
    expected = slow_scaled_weights(score, inside, power)
    torch.testing.assert_close(scaled_weights(score, inside, power), expected)
    assert (expected[3] == 1).all()


def test_the_only_outer_cell_may_be_the_least_similar():
    inside = torch.ones(1, 9, dtype=torch.bool)
    inside[0, 4] = False
    score = torch.arange(9.0).view(1, 9) / 9
    score[0, 4] = -0.5
    weights = scaled_weights(score, inside, 2.0)
    assert weights[0].tolist() == [1] * 4 + [0] + [1] * 4


def test_weights_use_the_overlap_of_the_views():
    score = torch.full((1, 9), 0.5)
    score[0, 8] = 0.1
    half = torch.tensor([[[0, 0, 30, 30, 0], [0, 0, 20, 30, 0]]])
    assert semantic_weights(score, half, 2.0, overlap_rule=True)[0].tolist() == [1] * 8 + [0]
    apart = torch.tensor([[[0, 0, 30, 30, 0], [50, 0, 20, 30, 0]]])
    plain = semantic_weights(score, apart, 2.0, overlap_rule=True)[0]
    torch.testing.assert_close(plain, torch.tensor([1.0] * 8 + [0.0]))
    similar = semantic_weights(score, half, 2.0, overlap_rule=False)[0]
    torch.testing.assert_close(similar, score[0] ** 2)


def test_the_weighted_mean_runs_over_the_whole_batch():
    losses, weights = torch.rand(3, 4), torch.rand(3, 4)
    expected = sum(float(losses[n, p] * weights[n, p]) for n in range(3) for p in range(4)) / float(
        weights.sum()
    )
    assert batch_mean(losses, weights).item() == pytest.approx(expected, rel=1e-5)
    assert batch_mean(losses, torch.zeros(3, 4)) == 0


def test_views_that_do_not_meet_teach_coord_nothing():
    method = build(EVERY["pixcon-coord"])
    boxes = BOXES.clone()
    boxes[:, 1, 0] += 1000
    terms, _ = forward(method, batch()._replace(view_boxes=boxes))
    assert terms["loss_dense"] == 0
    torch.testing.assert_close(terms["loss"].detach(), 2 * 0.5 * terms["loss_instance"])
    assert within_radius(torch.tensor([-0.7, -0.71]), boxes, 0.7).tolist() == [1, 0]


def test_a_batch_in_micro_batches_has_the_same_gradient():
    chosen = settings("densecl", bn_group_size=2, key_bn="none")
    gradients = []
    for count in (1, 2):
        method = build(chosen, count)
        pair = batch()
        keys = method.before_step(pair, FIRST)
        for part in range(count):
            mine = slice(part * BATCH // count, (part + 1) * BATCH // count)
            views = PreparedBatch(*(None if t is None else t[mine] for t in pair))
            own = tuple({name: t[mine] for name, t in k.items()} for k in keys)
            (method(views, own, FIRST)["loss"] / count).backward()
        gradients.append([p.grad for p in method.parameters() if p.grad is not None])
        method.after_step(pair, keys, FIRST)
        gradients[-1] += [b for n, b in method.named_buffers() if "running" in n]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_peak_of_logits_is_bounded():
    """Of the cells' similarities with the queue only as many rows as images are in memory."""
    queue, cells = 4096, BATCH * 9
    rows = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and queue in result.shape:
                rows.append(result.numel() // queue)
            return result

    method = build(settings("densecl", queue_size=queue))
    with Watch():
        terms, _ = forward(method)
        terms["loss"].backward()
    assert rows.count(BATCH) >= cells // BATCH
    assert max(rows) <= DIM < cells  # the queue itself, and its negatives of whole views


def test_predictors_are_normalised_in_groups_too():
    method = build(settings("densecl", bn_group_size=2, predictor=True))
    norms = [m for m in method.predictor.modules() if isinstance(m, GroupedBatchNorm)]
    assert [norm.group for norm in norms] == [2, 2]


def test_by_backbone_ignores_projections():
    query = {"map": torch.eye(4)[None], "dense": torch.zeros(1, 2, 4)}
    index, _ = by_backbone(query, {**query, "dense": torch.ones(1, 2, 4)}, BOXES[:1])
    assert index.tolist() == [[0, 1, 2, 3]]

"""Steps of the methods that the papers compare themselves with."""

import math

import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional as F
from two_processes import meeting, on_two

from cp2.augment.pipeline import PreparedBatch
from cp2.methods.registry import build_encoder, build_method
from cp2.methods.step import Step
from cp2.models.backbones import build_backbone
from cp2.settings.methods import PlainSettings
from cp2.settings.rivals import ByolSettings, PixProSettings, SimClrSettings, SlotConSettings

BATCH, SIZE = 4, 96
FIRST = Step(0, 10, 0)
BACKBONE = tiny.resnet((4, 4, 4, 4), output_stride=32)
BOXES = torch.tensor(
    [[[0, 0, 60, 60, n % 2, 90, 80], [10 * n, 7, 50, 40, 1, 90, 80]] for n in range(BATCH)]
)
GIVEN = {
    "name": "t",
    "title": "",
    "optimizer": {},
    "views": {"crop_size": SIZE},
    "batch_size": BATCH,
    "dim": 8,
}
MOMENTUM = GIVEN | {"symmetric": True, "key_bn": "none", "momentum": 0.9, "momentum_end": 1.0}
WIDE = {"projector_width": 16, "predictor_width": 16}
SLOTCON = MOMENTUM | WIDE | {"kind": "slotcon", "prototypes": 6}
BRANCHES = {"queue_size": 20, "branch_dim": 8}
EVERY = {
    "byol": ByolSettings(kind="byol", **MOMENTUM, **WIDE),
    "simclr": SimClrSettings(kind="simclr", **GIVEN),
    "pixpro": PixProSettings(kind="pixpro", **MOMENTUM, **WIDE),
    "pixpro, image": PixProSettings(kind="pixpro", instance_branch=True, **MOMENTUM, **WIDE),
    "slotcon": SlotConSettings(**SLOTCON),
    "slotcon, image": SlotConSettings(**SLOTCON, **BRANCHES, image_branch=True),
    "slotcon, pixel": SlotConSettings(**SLOTCON, **BRANCHES, pixel_branch=True),
    "slotcon, sim": SlotConSettings(**SLOTCON, matching="sim"),
    "slotcon, both": SlotConSettings(**SLOTCON, matching="both"),
    "slotcon, reweighted": SlotConSettings(**SLOTCON, matching="both", reweighting=True),
}


def build(chosen):
    torch.manual_seed(0)
    encoder = build_encoder(chosen, build_backbone(BACKBONE), None)
    return build_method(chosen, encoder).train()


def batch(seed=3, boxes=BOXES):
    images = torch.randn(2, BATCH, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return PreparedBatch(images[0], images[1], None, None, boxes)


def forward(method, pair=None, step=FIRST):
    pair = pair or batch()
    prepared = method.before_step(pair, step)
    return method(pair, prepared, step), prepared


@pytest.mark.parametrize("chosen", EVERY.values(), ids=EVERY)
def test_a_step(chosen):
    method = build(chosen)
    method.watched = True
    pair, step = batch(), Step(4, 10, 0)
    terms, prepared = forward(method, pair, step)
    terms["loss"].backward()
    health = method.health()
    assert all(torch.isfinite(value) for value in health.values())
    whole_views = chosen.kind != "slotcon" or chosen.image_branch
    assert ("health/deviation" in health) == whole_views
    method.after_step(pair, prepared, step)
    assert sorted(terms) == sorted(method.terms)
    assert all(torch.isfinite(value) for value in terms.values())
    assert [name for name, value in terms.items() if value.requires_grad] == ["loss"]
    for name, parameter in method.named_parameters():
        trained = not name.startswith("encoders.key.")
        assert (parameter.grad is not None) == trained, name
    for name, value in method.state_dict().items():
        assert torch.isfinite(value).all(), name


@pytest.mark.parametrize("init", ["pytorch", "kaiming"])
def test_first_values_of_byol(init):
    width = 512
    chosen = EVERY["byol"].model_copy(
        update={"head_init": init, "projector_width": width, "predictor_width": width, "dim": 64}
    )
    method = build(chosen)
    predictor, projector = method.predictor[0], method.encoders.query.fc[3]
    if init == "kaiming":
        assert predictor.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert projector.weight.std().item() == pytest.approx((2 / width) ** 0.5, rel=0.05)
        assert predictor.bias.abs().max() == projector.bias.abs().max() == 0
    else:
        assert predictor.weight.abs().max() <= 64**-0.5
        assert predictor.bias.abs().max() > 0


def test_simclr_normalises_both_views_together():
    method = build(EVERY["simclr"])
    pair = batch()
    first = method.encoder.backbone(torch.cat([pair.images_q, pair.images_k])).mean((2, 3))
    hidden = F.linear(first, method.encoder.fc[0].weight)
    method = build(EVERY["simclr"])
    forward(method, pair)
    norm = method.encoder.fc[1]
    torch.testing.assert_close(norm.running_mean, 0.1 * hidden.mean(0), rtol=1e-4, atol=1e-6)
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("name", ["simclr", "pixpro", "pixpro, image"])
def test_health_is_of_one_vector_an_image(name):
    method = build(EVERY[name]).eval()
    method.watched = True
    pair = batch()
    forward(method, pair)
    if name == "simclr":
        views = [method.encoder(images) for images in (pair.images_q, pair.images_k)]
    else:
        encoders = (method.encoders.query, pair.images_q), (method.encoders.key, pair.images_k)
        features = [encoder(images) for encoder, images in encoders]
        views = [
            (F.normalize(one.dense, dim=1) if one.instance is None else one.instance).mean((2, 3))
            for one in features
        ]
    q, k = (view / view.norm(dim=1, keepdim=True) for view in views)
    expected = (q - k).square().sum()
    assert method.health()["health/alignment"].item() == pytest.approx(expected.item() / BATCH)
    assert method.health() == {}  # one step's, once


def test_simclr_needs_the_whole_batch():
    reason = EVERY["simclr"].misfit(32, 2)
    assert "2 micro-batches" in reason
    assert "--accumulate" in reason
    assert EVERY["simclr"].misfit(32, 1) is None


def test_slotcon_exports_the_teacher():
    method = build(EVERY["slotcon"])
    assert method.exported is method.encoders.key
    assert {name for name, _ in method.exported.named_children()} == {
        "backbone",
        "projector",
        "prototypes",
    }
    assert build(EVERY["pixpro"]).exported.backbone is not None


@pytest.mark.parametrize("name", [name for name in EVERY if name.startswith(("slotcon", "pixpro"))])
def test_views_that_do_not_meet(name):
    apart = BOXES.clone()
    apart[:, 1, 0] += 1000
    terms, _ = forward(build(EVERY[name]), batch(boxes=apart))
    assert all(torch.isfinite(value) for value in terms.values())
    if name == "pixpro":
        assert terms["loss"] == 0


def test_a_batch_with_hardly_a_common_slot_teaches_no_slots():
    method = build(EVERY["slotcon"])
    keys = method.before_step(batch(), FIRST)
    for view in keys:
        view["valid"].fill_(False)
    terms = method(batch(), keys, FIRST)
    assert terms["loss_slot"] == 0
    terms["loss"].backward()
    assert all(p.grad is not None for p in method.objective.predictor.parameters())


def slow_slots(settings, method, features, keys, places):
    """Group loss by place and slot loss of one direction, loop by loop."""
    n, k, side, _ = features.score.shape
    tau, centre = settings.teacher_temperature, method.objective.centre
    group = []
    for i in range(n):
        cut = []
        for view, score in enumerate((features.score, keys["score"])):
            x0, y0, x1, y1 = (places[i, view] * side).tolist()
            box, out = score[i], torch.zeros(k, side, side)
            for row in range(side):
                for column in range(side):
                    y = y0 + (row + 0.5) * (y1 - y0) / side - 0.5
                    x = x0 + (column + 0.5) * (x1 - x0) / side - 0.5
                    y, x = min(max(y, 0), side - 1), min(max(x, 0), side - 1)
                    top, left = int(y), int(x)
                    bottom, right = min(top + 1, side - 1), min(left + 1, side - 1)
                    out[:, row, column] = (
                        box[:, top, left] * (1 - y + top) * (1 - x + left)
                        + box[:, top, right] * (1 - y + top) * (x - left)
                        + box[:, bottom, left] * (y - top) * (1 - x + left)
                        + box[:, bottom, right] * (y - top) * (x - left)
                    )
            cut.append(out.flip(2) if BOXES[i, view, 4] else out)
        target = ((cut[1] - centre[:, None, None]) / tau).softmax(0)
        group.append(-(target * (cut[0] / settings.student_temperature).log_softmax(0)).sum(0))
    every, wanted = [], []
    for i in range(n):
        shares = (features.score[i].flatten(1) / tau).softmax(0) + 1e-6
        x = features.x[i].flatten(1)
        nearest = set(features.score[i].flatten(1).argmax(0).tolist())
        for slot in sorted(nearest):
            if keys["valid"][i, slot]:
                every.append((x * shares[slot]).sum(1) / shares[slot].sum())
                wanted.append((i, slot))
    queries = F.normalize(method.objective.predictor(torch.stack(every)), dim=1)
    losses = []
    for query, place in zip(queries, wanted, strict=True):
        scores = {
            (i, slot): query @ keys["slots"][i, slot] / settings.slot_temperature
            for i in range(n)
            for slot in range(k)
            if keys["valid"][i, slot]
        }
        losses.append(torch.stack(list(scores.values())).logsumexp(0) - scores[place])
    slot = 2 * settings.slot_temperature * torch.stack(losses).mean()
    return torch.stack(group).mean(), slot


def test_slotcon_against_loops():
    chosen = EVERY["slotcon"]
    method = build(chosen)
    method.objective.centre.uniform_(-0.1, 0.1)
    pair = batch()
    keys = method.before_step(pair, FIRST)[0]
    features = method.encode_query(pair.images_q)
    terms = method.objective(features, keys, pair, FIRST)
    top, left, height, width = (BOXES[..., i].float() for i in range(4))
    places = torch.empty(BATCH, 2, 4)
    for i in range(BATCH):
        x0, x1 = left[i].max(), (left[i] + width[i]).min()
        y0, y1 = top[i].max(), (top[i] + height[i]).min()
        for view in (0, 1):
            ends = [(x0 - left[i, view]) / width[i, view], (x1 - left[i, view]) / width[i, view]]
            if BOXES[i, view, 4]:
                ends = [1 - ends[1], 1 - ends[0]]
            places[i, view, 0], places[i, view, 2] = ends
            places[i, view, 1] = (y0 - top[i, view]) / height[i, view]
            places[i, view, 3] = (y1 - top[i, view]) / height[i, view]
    group, slot = slow_slots(chosen, method, features, keys, places)
    torch.testing.assert_close(terms["loss_group"], group.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["loss_slot"], slot.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("matching", ["sim", "both"])
def test_slotcons_group_loss_by_similarity(matching):
    chosen = EVERY["slotcon, sim" if matching == "sim" else "slotcon, both"]
    method = build(chosen)
    pair = batch()
    keys = method.before_step(pair, FIRST)[0]
    features = method.encode_query(pair.images_q)
    losses = []
    for i in range(BATCH):
        map = F.normalize(features.map[i].flatten(1), dim=0)
        nearest = (map.T @ keys["map"][i]).argmax(1)
        q = features.score[i].flatten(1) / chosen.student_temperature
        k = keys["score"][i].flatten(1)[:, nearest] / chosen.teacher_temperature
        losses.append(-(k.softmax(0) * q.log_softmax(0)).sum(0))
    expected = torch.stack(losses).mean()
    if matching == "both":
        plain = build(EVERY["slotcon"]).objective.group_loss(features, keys, pair.view_boxes)
        expected = (expected + plain) / 2
    found = method.objective.group_loss(features, keys, pair.view_boxes)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("matching", ["sim", "both"])
def test_reweighting_against_loops(matching):
    chosen = SlotConSettings(**SLOTCON, matching=matching, reweighting=True)
    method = build(chosen)
    pair = batch()
    keys = method.before_step(pair, FIRST)[0]
    features = method.encode_query(pair.images_q)
    side = features.score.shape[-1]
    total, weight = 0.0, 0.0
    for i in range(BATCH):
        map = F.normalize(features.map[i].flatten(1), dim=0)
        (top, left, height, width, mirrored, _, _), other = BOXES[i].tolist()
        rows = max(other[0] - top, 0), min(other[0] + other[2] - top, height)
        columns = max(other[1] - left, 0), min(other[1] + other[3] - left, width)
        if mirrored:
            columns = width - columns[1], width - columns[0]
        similarities, losses, inside = [], [], []
        for p in range(side**2):
            cosines = map[:, p] @ keys["map"][i]
            j = int(cosines.argmax())
            similarities.append(cosines[j].item())
            q = features.score[i].flatten(1)[:, p] / chosen.student_temperature
            k = keys["score"][i].flatten(1)[:, j] / chosen.teacher_temperature
            losses.append(-(k.softmax(0) * q.log_softmax(0)).sum().item())
            row, column = divmod(p, side)
            inside.append(
                rows[0] * side // height <= row < rows[1] * side // height
                and columns[0] * side // width <= column < columns[1] * side // width
            )
        least = min(similarities)
        outer = [s for s, within in zip(similarities, inside, strict=True) if not within]
        for s, loss, within in zip(similarities, losses, inside, strict=True):
            w = 1.0 if within else ((s - least) / max(max(outer) - least, 1e-6)) ** 2
            total, weight = total + w * loss, weight + w
        assert 0 < sum(inside) < side**2
    expected = total / weight
    if matching == "both":
        plain = build(EVERY["slotcon"]).objective.group_loss(features, keys, pair.view_boxes)
        expected = (expected + plain.item()) / 2
    found = method.objective.group_loss(features, keys, pair.view_boxes)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_the_pixel_branch_against_loops():
    method = build(EVERY["slotcon, pixel"])
    pair = batch()
    keys = method.before_step(pair, FIRST)[0]
    features = method.encode_query(pair.images_q)
    terms = method.objective(features, keys, pair, FIRST)
    queries = F.normalize(build(EVERY["slotcon, pixel"]).objective.pixel(features.pixel), dim=1)
    losses = []
    for i in range(BATCH):
        map = F.normalize(features.map[i].flatten(1), dim=0)
        for p in range(map.shape[1]):
            own = keys["dense"][i, :, int((map[:, p] @ keys["map"][i]).argmax())]
            query = queries[i].flatten(1)[:, p]
            logits = torch.cat([(query @ own)[None], query @ method.objective.queue("queue2")])
            losses.append(-(logits / 0.2).log_softmax(0)[0])
    expected = torch.stack(losses).mean().detach()
    torch.testing.assert_close(terms["loss_dense"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["pixpro", "slotcon"])
def test_the_momentum_is_that_of_the_step_itself(name):
    method = build(EVERY[name])
    for number in (0, 1, 7):
        expected = 1 - (1 - 0.9) * (1 + math.cos(math.pi * number / 10)) / 2
        assert method.momentum(Step(number, 10, 0)) == pytest.approx(expected, abs=1e-12)


def test_branches_are_moco_v2_plus_and_pixcon_sims():
    chosen = SlotConSettings(**SLOTCON, **BRANCHES, image_branch=True, pixel_branch=True)
    method = build(chosen)
    pair = batch()
    keys = method.before_step(pair, FIRST)[0]
    features = method.encode_query(pair.images_q)
    terms = method.objective(features, keys, pair, FIRST)
    q = F.normalize(build(chosen).objective.image(features.image), dim=1)
    logits = torch.cat([(q * keys["image"]).sum(1, keepdim=True), q @ method.objective.queue()], 1)
    expected = F.cross_entropy(logits / 0.2, torch.zeros(BATCH, dtype=torch.long))
    torch.testing.assert_close(terms["loss_instance"], expected.detach(), rtol=1e-4, atol=1e-5)
    four = ("loss_group", "loss_slot", "loss_instance", "loss_dense")
    torch.testing.assert_close(terms["loss"].detach(), sum(terms[name] for name in four) / 2)
    assert set(method.objective.entries(keys, None)) == {"queue", "queue2"}


def test_pixpro_against_loops():
    method = build(EVERY["pixpro"])
    pair = batch()
    keys = method.before_step(pair, FIRST)[0]
    features = method.encode_query(pair.images_q)
    found = method.objective(features, keys, pair, FIRST)["loss"]
    side = features.dense.shape[-1]
    images = []
    for i in range(BATCH):
        x = features.dense[i].flatten(1).T
        values = method.objective.value(features.dense[i : i + 1])[0].flatten(1).T
        centres, diagonals = [], []
        for top, left, height, width, flip, h, w in BOXES[i].tolist():
            rows = (top / (h - 1), (top + height - 1) / (h - 1))
            columns = (left / (w - 1), (left + width - 1) / (w - 1))
            bins = (rows[1] - rows[0]) / side, (columns[1] - columns[0]) / side
            diagonals.append((bins[0] ** 2 + bins[1] ** 2) ** 0.5)
            centres.append(
                [
                    (
                        rows[0] + (r + 0.5) * bins[0],
                        columns[1] - (c + 0.5) * bins[1]
                        if flip
                        else columns[0] + (c + 0.5) * bins[1],
                    )
                    for r in range(side)
                    for c in range(side)
                ]
            )
        total, count = 0.0, 0
        for p, (py, px) in enumerate(centres[0]):
            y = 0
            for j in range(side**2):
                weight = F.cosine_similarity(x[p], x[j], dim=0).clamp(min=0) ** 2
                y = y + weight * values[j] / values[j].norm()
            for j, (ky, kx) in enumerate(centres[1]):
                if ((py - ky) ** 2 + (px - kx) ** 2) ** 0.5 < 0.7 * max(diagonals):
                    total, count = total + y @ keys["dense"][i, :, j] / y.norm(), count + 1
        images.append(total / count if count else torch.zeros(()))
    expected = -2 * torch.stack(images).mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def whole_step(method, pair):
    """Gradients, and what a step leaves in the objective."""
    method.watched = True
    terms, prepared = forward(method, pair)
    terms["loss"].backward()
    health = method.health()
    method.after_step(pair, prepared, FIRST)
    gradients = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
    kept = {n: b for n, b in method.named_buffers() if "objective" in n and "tracked" not in n}
    return terms["loss"].detach(), gradients, kept | health


def _share(rank, folder):
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    with meeting(rank, folder):
        pair = PreparedBatch(*(None if part is None else part[half] for part in batch()))
        torch.save(
            {name: whole_step(build(chosen), pair) for name, chosen in EVERY.items()},
            folder / f"{rank}.pt",
        )


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shares")
    on_two(_share, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", EVERY)
def test_two_processes_make_the_step_of_one(name, shares):
    loss, gradients, kept = whole_step(build(EVERY[name]), batch())
    losses, halves, after = zip(*(share[name] for share in shares), strict=True)
    torch.testing.assert_close(sum(losses) / 2, loss, rtol=1e-5, atol=1e-5)
    whole = torch.cat([gradient.flatten() for gradient in gradients.values()])
    mean = torch.cat([(halves[0][key] + halves[1][key]).flatten() / 2 for key in gradients])
    assert (mean - whole).norm() < 0.01 * whole.norm()  # rounding may turn a ReLU on or off
    for key, buffer in kept.items():
        for rank in (0, 1):
            torch.testing.assert_close(after[rank][key], buffer, rtol=1e-4, atol=1e-5)


def test_a_projection_of_three_layers():
    given = GIVEN | {"kind": "moco-v2-plus", "queue_size": 20, "projector_width": 24}
    three = build(PlainSettings(**given, projector_layers=3)).encoders.query.fc
    shapes = [tuple(layer.weight.shape) for layer in three if isinstance(layer, nn.Linear)]
    channels = three[0].in_features
    assert shapes == [(24, channels), (24, 24), (8, 24)]
    two = build(PlainSettings(**given)).encoders.query.fc
    assert [tuple(two[i].weight.shape) for i in (0, 2)] == [(24, channels), (8, 24)]

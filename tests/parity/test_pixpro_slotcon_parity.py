"""PixPro's and SlotCon's losses, gradients, masks, slots and centre against the released code's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from two_processes import meeting, on_two

from cp2.augment.pipeline import PreparedBatch
from cp2.methods import pixpro, slotcon
from cp2.methods.matching import aligned, overlaps
from cp2.methods.momentum import rising_momentum
from cp2.methods.step import Step
from cp2.models.batch_norm import group_batch_norm
from cp2.settings.optimization import CosineSettings
from cp2.settings.rivals import PixProSettings, SlotConSettings
from cp2.training.optimizers import cosine_lr

GOLDEN = Path(__file__).parent / "golden"
FIRST = Step(0, 10, 0)
GIVEN = {"name": "t", "title": "", "optimizer": {}, "batch_size": 6, "dim": 16}
GIVEN |= {"symmetric": True, "key_bn": "none", "momentum": 0.99, "momentum_end": 1.0}
GIVEN |= {"predictor_width": 24}
SCHEDULE = CosineSettings(
    by="step", warmup_epochs=3, warmup_ratio=0.01, after_warmup=True, min_lr=1e-6
)


def golden(name):
    with np.load(GOLDEN / f"rivals_{name}.npz") as data:
        return {key: torch.from_numpy(np.array(data[key])) for key in data.files}


def close(found, expected, share=1e-4):
    assert found.shape == expected.shape
    assert (found.detach() - expected).abs().max() <= share * expected.abs().max()


def near(found, expected):
    torch.testing.assert_close(found.detach(), expected, rtol=1e-5, atol=1e-5)


def view_boxes(boxes, flips, sizes):
    """(N, 2, 7)"""
    extents = sizes[:, None].expand(-1, 2, -1)
    return torch.cat([boxes, flips[..., None].long(), extents], dim=2)


def pair(boxes):
    empty = torch.empty(len(boxes), 0)
    return PreparedBatch(empty, empty, None, None, boxes)


@pytest.mark.parametrize("name", ["slotcon", "pixpro"])
def test_schedules(name):
    data = golden(name)
    base, steps, epochs, warmup = data["lr_settings"].tolist()
    assert warmup == SCHEDULE.warmup_epochs
    for number, expected in enumerate(data["lr_f8"].tolist()):
        epoch, position = divmod(number, int(steps))
        found = cosine_lr(base, SCHEDULE, epoch, position / steps, int(epochs))
        assert found == pytest.approx(expected, abs=1e-9)
    settings = SlotConSettings(kind="slotcon", **GIVEN)
    total = int(data["ema_K"])  # the release counts parts of a last batch, too
    for number, expected in enumerate(data["ema_f8"].tolist()):
        found = rising_momentum(settings.momentum, settings.momentum_end, Step(number, total, 0), 0)
        assert found == pytest.approx(expected, abs=1e-9)


# PixPro


@pytest.fixture(scope="module")
def pix():
    data = golden("pixpro")
    data["views"] = view_boxes(data["boxes"], data["flips"], data["photo_sizes"])
    return data


def propagation(data, **changes):
    chosen = PixProSettings(kind="pixpro", **GIVEN, **changes)
    made = pixpro.Propagation(chosen).train()
    made.value.load_state_dict({k: data[f"value.{k}"] for k in ("weight", "bias")})
    if made.predictor:
        for number, name in {0: "linear1", 1: "bn1", 3: "linear2"}.items():
            state = {k: data[f"predictor.{name}.{k}"] for k in ("weight", "bias")}
            made.predictor[number].load_state_dict(state, strict=False)
    return made


def pix_step(data, **changes):
    """Objective, inputs, terms of both directions."""
    made = propagation(data, **changes)
    wants = bool(changes)
    dense = [data[f"proj_{v}"].clone().requires_grad_() for v in (1, 2)]
    instance = [data[f"inst_{v}"].clone().requires_grad_() if wants else None for v in (1, 2)]
    terms = []
    for view in (0, 1):
        of_teacher = data[f"inst_k{2 - view}"] if wants else None
        keys = made.keys(pixpro.PixelFeatures(data[f"proj_k{2 - view}"], of_teacher))
        boxes = data["views"].flip(1) if view else data["views"]
        features = pixpro.PixelFeatures(dense[view], instance[view])
        terms.append(made(features, keys, pair(boxes), FIRST))
    return made, dense, instance, terms


@pytest.mark.parametrize(("direction", "name"), [(0, "12"), (1, "21")])
def test_positive_pairs(pix, direction, name):
    boxes = pix["views"].flip(1) if direction else pix["views"]
    found = pixpro.positives(boxes, 7, 0.7)
    packed = np.unpackbits(pix[f"positive_{name}_packed"].numpy())[: found.numel()]
    assert torch.equal(found, torch.from_numpy(packed).bool().view_as(found))
    assert found.sum((1, 2)).tolist() == pix[f"positive_count_{name}"].tolist()


def test_propagation(pix):
    made = propagation(pix)
    for view in (1, 2):
        x = pix[f"proj_{view}"]
        found = pixpro.propagate(x.flatten(2), made.value(x).flatten(2), 2.0)
        close(found.view_as(x), pix[f"propagated_{view}"])
    x = pix["proj_1"][:2]
    plain = pixpro.propagate(x.flatten(2), x.flatten(2), 1.0)
    close(plain.view_as(x), pix["propagated_1_layer0_gamma1"])


def test_pixpros_pixel_loss(pix):
    made, dense, _, terms = pix_step(pix)
    for found, name in zip(terms, ("pixel_12", "pixel_21"), strict=True):
        near(found["loss"], pix[name])
    sum(found["loss"] for found in terms).backward()
    for view in (0, 1):
        close(dense[view].grad, pix[f"grad_proj_{view + 1}"])
    for name, parameter in made.value.named_parameters():
        close(parameter.grad, pix[f"grad_value.{name}"])


def test_pixpros_instance_loss(pix):
    made, _, instance, terms = pix_step(pix, instance_branch=True)
    for found, name in zip(terms, ("instance_12", "instance_21"), strict=True):
        near(found["loss_instance"], pix[name])
    total = sum(found["loss"] for found in terms)
    near(total, pix["loss_with_instance"])
    total.backward()
    for view in (0, 1):
        close(instance[view].grad, pix[f"grad_inst_{view + 1}"])
    norm = made.predictor[1]
    close(norm.running_mean, pix["predictor_after.bn1.running_mean"], 1e-6)
    close(norm.running_var, pix["predictor_after.bn1.running_var"], 1e-6)
    for number, name in {0: "linear1", 1: "bn1", 3: "linear2"}.items():
        for key, parameter in made.predictor[number].named_parameters():
            expected = pix[f"grad_predictor.{name}.{key}"]
            if expected.abs().max() > 1e-6:
                close(parameter.grad, expected)


# SlotCon


@pytest.fixture(scope="module")
def slot():
    data = golden("slotcon")
    sizes = data["photo_sizes"]
    data["views"] = view_boxes(data["boxes"], data["flips"], sizes)
    return data


def objective(data):
    chosen = SlotConSettings(kind="slotcon", prototypes=12, **GIVEN)
    made = slotcon.Slots(chosen).train()
    state = {k[len("predictor.mlp.") :]: v for k, v in data.items() if k.startswith("predictor.")}
    made.predictor.load_state_dict(state, strict=False)
    made.centre.copy_(data["center_before"][0])
    return made


def features(x, prototypes):
    empty = torch.empty(0)
    return slotcon.SlotFeatures(x, slotcon.scores(x, prototypes), empty, None, None)


def student_and_teacher(data, images=slice(None)):
    prototypes = data["prototypes_q"].clone().requires_grad_()
    x = [data[f"x{v}"][images].clone().requires_grad_() for v in (1, 2)]
    student = [features(one, prototypes) for one in x]
    teacher = [features(data[f"y{v}"][images], data["prototypes_k_after"]) for v in (1, 2)]
    return prototypes, x, student, teacher


def test_places_of_the_overlap(slot):
    places = overlaps(slot["views"])
    for view in (0, 1):
        torch.testing.assert_close(places[:, view], slot[f"coords_{view + 1}"], rtol=0, atol=1e-6)


def test_views_that_do_not_meet_have_no_scores(slot):
    boxes = view_boxes(
        slot["disjoint_boxes"], torch.tensor([[False, True]] * 2), torch.ones(2, 2).long()
    )
    found = aligned(slot["score_q1"][:2], overlaps(boxes)[:, 0], torch.zeros(2) > 0)
    assert torch.equal(found, slot["disjoint_aligned"])
    assert not found.any()


def test_scores_slots_and_assignments(slot):
    _, _, student, teacher = student_and_teacher(slot)
    made = objective(slot)
    for role, views in (("q", student), ("k", teacher)):
        for number, found in enumerate(views, 1):
            close(found.score, slot[f"score_{role}{number}"])
            mirrored = slot["flips"][:, number - 1]
            places = overlaps(slot["views"])[:, number - 1]
            close(
                aligned(found.score, places, mirrored),
                slot[f"{role}{number}_aligned"],
            )
            close(made._slots(found), slot[f"slots_{role}{number}"])
            assignment = slot[f"assignment_{role}{number}"].long()
            assert torch.equal(found.score.argmax(1), assignment)
            slow = F.one_hot(assignment.flatten(1), 12).amax(1) > 0
            assert torch.equal(slotcon.occupied(found.score), slow)


def slot_step(data):
    made = objective(data)
    prototypes, x, student, teacher = student_and_teacher(data)
    keys = [made.keys(view) for view in teacher]
    terms = []
    for view in (0, 1):
        boxes = data["views"].flip(1) if view else data["views"]
        terms.append(made(student[view], keys[1 - view], pair(boxes), FIRST))
    return made, prototypes, x, keys, terms


def test_slotcons_losses_and_gradients(slot):
    made, prototypes, x, _, terms = slot_step(slot)
    for found, direction in zip(terms, ("12", "21"), strict=True):
        near(found["loss_group"], slot[f"group_{direction}"])
        near(found["loss_slot"], slot[f"slot_{direction}"])
    total = sum(found["loss"] for found in terms)
    torch.testing.assert_close(total.detach(), slot["loss"], rtol=1e-5, atol=0)
    total.backward()
    for view in (0, 1):
        close(x[view].grad, slot[f"grad_x{view + 1}"])
    close(prototypes.grad, slot["grad_prototypes_q"])
    for name, parameter in made.predictor.named_parameters():
        expected = slot[f"grad_predictor.mlp.{name}"]
        if expected.abs().max() > 1e-6:  # a bias before batch norm has none
            close(parameter.grad, expected)
    for number in (1, 4):
        for name in ("running_mean", "running_var"):
            expected = slot[f"predictor_after.mlp.{number}.{name}"]
            close(getattr(made.predictor[number], name), expected, 1e-6)


@pytest.mark.parametrize(("term", "name"), [("loss_group", "group"), ("loss_slot", "slot")])
def test_either_loss_has_its_gradient(slot, term, name):
    made = objective(slot)
    _, x, student, teacher = student_and_teacher(slot)
    keys = [made.keys(view) for view in teacher]
    total = 0
    for view in (0, 1):
        boxes = slot["views"].flip(1) if view else slot["views"]
        given = (student[view], keys[1 - view])
        total += made.group_loss(*given, boxes) if name == "group" else made.slot_loss(*given)
    near(total, slot[f"{name}_alone"])
    total.backward()
    close(x[0].grad, slot[f"grad_x1_{name}"])


@pytest.mark.parametrize(("view", "direction"), [(0, "12"), (1, "21")])
def test_which_slots_are_compared(slot, view, direction):
    made = objective(slot)
    _, _, student, teacher = student_and_teacher(slot)
    keys = made.keys(teacher[1 - view])
    valid = slotcon.occupied(student[view].score)
    assert torch.equal(valid, slot[f"valid_q_{direction}"])
    assert torch.equal(keys["valid"], slot[f"valid_keys_{direction}"])
    both = valid & keys["valid"]
    assert torch.equal(both, slot[f"valid_both_{direction}"])
    assert torch.equal(slotcon.chosen(both, keys["score"]), slot[f"rows_{direction}"])


def test_the_centre(slot):
    made, _, _, keys, _ = slot_step(slot)
    made.update(tuple(keys), FIRST)
    torch.testing.assert_close(made.centre, slot["center_after"][0], rtol=0, atol=1e-6)


def test_prototypes_of_the_teacher(slot):
    step = Step(int(slot["momentum_k"]), int(slot["momentum_K"]), 0)
    settings = SlotConSettings(kind="slotcon", **GIVEN)
    m = rising_momentum(settings.momentum, settings.momentum_end, step, 0)
    assert m == pytest.approx(slot["momentum_m"].item())
    found = slot["prototypes_k_before"].lerp(slot["prototypes_q"], 1 - m)
    torch.testing.assert_close(found, slot["prototypes_k_after"], rtol=0, atol=1e-6)


def _share(rank, folder):
    data = golden("slotcon")
    images = slice(3 * rank, 3 * rank + 3)
    with meeting(rank, folder):
        made = objective(data)
        group_batch_norm(made, 6, None)
        _, x, student, teacher = student_and_teacher(data, images)
        keys = [made.keys(view) for view in teacher]
        means, total = [], 0
        for view in (0, 1):
            other = keys[1 - view]
            rows = slotcon.chosen(
                slotcon.occupied(student[view].score) & other["valid"], other["score"]
            )
            means.append(made.slot_losses(made._slots(student[view]), rows, other).mean())
            total = total + made.slot_loss(student[view], other)
        # As released: each process' own mean, of which the gradients' mean is taken.
        (torch.stack(means).sum() / 2).backward()
        made.update(tuple(keys), FIRST)
        found = torch.stack(means).detach(), x[0].grad, total.detach(), made.centre
        torch.save(found, folder / f"{rank}.pt")


def test_slots_of_two_processes(slot, tmp_path):
    """Negatives and batch norm of all; the loss is the mean over all rows, the centre is one's."""
    on_two(_share, tmp_path)
    both = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for rank, (means, gradient, _, centre) in enumerate(both):
        near(means[0], slot["two_slot_12"][rank])
        near(means[1], slot["two_slot_21"][rank])
        expected = slot["two_grad_x1_slot"][3 * rank : 3 * rank + 3]
        close(gradient / 2, expected)
        torch.testing.assert_close(centre, slot["center_after"][0], rtol=0, atol=1e-6)
    near((both[0][2] + both[1][2]) / 2, slot["slot_alone"])

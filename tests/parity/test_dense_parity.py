"""DenseCL's and PixCon's losses, gradients and queues against the released code's numbers."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from cp2.augment.pipeline import PreparedBatch
from cp2.augment.view_boxes import overlap_mask
from cp2.methods.densecl import DenseContrast
from cp2.methods.matching import by_backbone
from cp2.methods.momentum import KeyQueue
from cp2.methods.pixcon import semantic_weights
from cp2.methods.step import Step
from cp2.models.projectors import DenseFeatures
from cp2.settings.dense import DenseClSettings

FIRST = Step(0, 10, 0)
GOLDEN = Path(__file__).parent / "golden"
SETTINGS = DenseClSettings(
    kind="densecl", name="t", title="", optimizer={}, dim=16, queue_size=64, loss_lambda=0.5
)


def golden(name):
    with np.load(GOLDEN / f"{name}_losses.npz") as data:
        return {key: torch.from_numpy(np.array(data[key])) for key in data.files}


def features(image, cells, backbone):
    return DenseFeatures(image, cells.unflatten(2, (7, 7)), backbone)


def objective(data, weigh=None):
    made = DenseContrast(SETTINGS, by_backbone, weigh)
    made.queue("queue2").copy_(data["queue_dense"])
    if "queue" in data:
        made.queue().copy_(data["queue"])
    return made


def views(n=4):
    empty = torch.empty(n, 0)
    return PreparedBatch(empty, empty, None, None, torch.zeros(n, 2, 5).long())


def boxes_of(masks):
    """Two views each, of which the second covers of the first what the golden mask does."""
    boxes = []
    for mask in masks:
        rows, columns = (mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
        # 3 of 10 pixels more at the ends: a part of a cell, which does not count there.
        other = [10 * top, 10 * left, 10 * height + 3, 10 * width + 3, 1]
        boxes.append([[0, 0, 70, 70, 0], other])
    return torch.tensor(boxes)


@pytest.mark.parametrize("view", [1, 2])
def test_the_overlap_rule_gives_the_golden_masks(view):
    masks = golden("pixcon")[f"mask_v{view}"]
    boxes = boxes_of(masks)
    assert torch.equal(overlap_mask(boxes[:, 0], boxes[:, 1], 7), masks.flatten(1).bool())


@pytest.fixture
def densecl():
    return golden("densecl")


@pytest.fixture
def step(densecl):
    """Objective, keys, terms; gradients are in the inputs."""
    made = objective(densecl)
    inputs = [densecl[name].requires_grad_() for name in ("q", "q_grid")]
    of_view = features(densecl["k"], densecl["k_grid"], densecl["k_backbone"])
    keys = made.keys(of_view)
    terms = made(features(*inputs, densecl["q_backbone"]), keys, views(), FIRST)
    terms["loss"].backward()
    return made, keys, terms


def test_densecl_losses(densecl, step):
    _, _, terms = step
    for term, name in (("loss_instance", "global"), ("loss_dense", "dense")):
        expected = densecl[f"loss_{name}_weighted"]
        torch.testing.assert_close(
            0.5 * terms[term], expected.to(terms[term].dtype), rtol=1e-5, atol=0
        )


@pytest.mark.parametrize("name", ["q", "q_grid"])
def test_densecl_gradients(densecl, step, name):
    expected = densecl[f"grad_{name}"]
    assert (densecl[name].grad - expected).norm() <= 1e-4 * expected.norm()


def test_densecl_queues(densecl, step):
    made, keys, _ = step
    # The golden k2 is given by itself, not as the mean of k_grid.
    keys["mean"] = torch.nn.functional.normalize(densecl["k2"], dim=1)
    for name, vectors in made.entries(keys, None).items():
        queue = made.queues[name]
        assert isinstance(queue, KeyQueue)
        queue.enqueue(vectors)
    torch.testing.assert_close(made.queue(), densecl["queue_after"])
    torch.testing.assert_close(made.queue("queue2"), densecl["queue_dense_after"])


@pytest.mark.parametrize("variant", ["sim", "sr_p2", "sr_nomask_p2"])
@pytest.mark.parametrize(("asks", "asked"), [(1, 2), (2, 1)])
def test_pixcon_dense_losses(variant, asks, asked):
    data = golden("pixcon")
    weigh = {
        "sim": None,
        "sr_p2": partial(semantic_weights, power=2.0, overlap_rule=True),
        "sr_nomask_p2": partial(semantic_weights, power=2.0, overlap_rule=False),
    }[variant]
    made = objective(data, weigh)
    image = torch.randn(4, 16)
    keys = made.keys(features(image, data[f"k_grid_v{asked}"], data[f"backbone_v{asked}"]))
    asking = features(image, data[f"q_grid_v{asks}"], data[f"backbone_v{asks}"])
    pair = views()._replace(view_boxes=boxes_of(data[f"mask_v{asks}"]))
    terms = made(asking, keys, pair, FIRST)
    expected = data[f"loss_dense_weighted_v{asks}_{variant}"]
    found = 0.5 * terms["loss_dense"]
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-5, atol=0)

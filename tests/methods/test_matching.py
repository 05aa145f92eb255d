"""Correspondences against loops over pairs of cells."""

import math

import pytest
import torch
from torch.nn import functional as F

from cp2.methods import matching

N, SIDE = 4, 3
P = SIDE * SIDE


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def vectors():
    return {
        "dense": F.normalize(torch.randn(N, 5, P), dim=1),
        "map": F.normalize(torch.randn(N, 7, P), dim=1),
    }


BOXES = torch.tensor(
    [
        [[0, 0, 30, 30, 0], [10, 10, 30, 30, 0]],
        [[0, 0, 30, 30, 1], [0, 0, 30, 30, 0]],
        [[5, 0, 12, 60, 0], [0, 20, 60, 12, 1]],
        [[0, 0, 9, 9, 0], [90, 90, 9, 9, 1]],
    ]
)


@pytest.mark.parametrize(
    ("match", "name"), [(matching.by_backbone, "map"), (matching.by_projection, "dense")]
)
def test_the_most_similar_cell(match, name):
    q, k = vectors(), vectors()
    index, score = match(q, k, BOXES)
    for n in range(N):
        for x in range(P):
            cosines = [float(q[name][n, :, x] @ k[name][n, :, y]) for y in range(P)]
            assert index[n, x] == max(range(P), key=cosines.__getitem__)
            assert score[n, x].item() == pytest.approx(max(cosines), abs=1e-5)


def test_matches_carry_no_gradient_and_the_first_of_equals_wins():
    features = torch.ones(1, 2, P, requires_grad=True)
    index, score = matching.most_similar(features, features)
    assert not score.requires_grad
    assert index.tolist() == [[0] * P]


def test_random_matches_are_those_that_came_with_the_keys():
    keys = vectors() | {"drawn": torch.randint(P, (N, P))}
    index, score = matching.at_random(vectors(), keys, BOXES)
    assert torch.equal(index, keys["drawn"])
    assert not score.any()


def centre(place, cell):
    top, left, height, width, mirrored = place.tolist()
    row, column = divmod(cell, SIDE)
    if mirrored:
        column = SIDE - 1 - column
    return top + (row + 0.5) / SIDE * height, left + (column + 0.5) / SIDE * width


def test_the_nearest_cell_in_the_photograph():
    index, score = matching.nearest(vectors(), vectors(), BOXES)
    for n, (own, other) in enumerate(BOXES):
        unit = max(math.hypot(*place[2:4].tolist()) / SIDE for place in (own, other))
        for x in range(P):
            distances = [math.dist(centre(own, x), centre(other, y)) / unit for y in range(P)]
            assert -score[n, x].item() == pytest.approx(min(distances), abs=1e-4)
            assert distances[index[n, x]] == pytest.approx(min(distances), abs=1e-4)


def test_a_mirrored_copy_matches_its_own_pixels():
    index, score = matching.nearest(vectors(), vectors(), BOXES[1:2])
    assert index.tolist() == [[2, 1, 0, 5, 4, 3, 8, 7, 6]]
    assert score.abs().max() < 1e-4

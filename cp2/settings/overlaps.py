"""How often two crops overlap as much as they must, so that settings are refused and not a view.

A trial in the distribution that `cp2/augment/views.py` draws from, without whole pixels.
"""

import math
import random
from functools import cache

Pair = tuple[float, float]

TRIES = 10  # second crops that are drawn
ASPECTS = (1.0, 4 / 3, 3 / 4)  # of photographs: width / height
TOLERATED = 0.5  # share of pairs that may become the central crop
_PAIRS = 300  # of each aspect


@cache
def central_share(scale: Pair, ratio: Pair, least: float) -> float:
    """Share of pairs whose second crops all overlap the first by less than `least`.

    That of the photographs' aspect with the smallest share: what is more is so everywhere.
    """
    return min(_of_aspect(aspect, scale, ratio, least) for aspect in ASPECTS)


def _of_aspect(aspect: float, scale: Pair, ratio: Pair, least: float) -> float:
    draw = random.Random(0)
    missed = 0
    for _ in range(_PAIRS):
        first = _crop(draw, aspect, scale, ratio)
        seconds = (_crop(draw, aspect, scale, ratio) for _ in range(TRIES))
        missed += all(_overlap(first, second) < least for second in seconds)
    return missed / _PAIRS


def _crop(draw: random.Random, aspect: float, scale: Pair, ratio: Pair) -> tuple[float, ...]:
    """Top, left, height and width, in heights of a photograph."""
    for _ in range(TRIES):
        area = aspect * draw.uniform(*scale)
        shape = math.exp(draw.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = math.sqrt(area * shape), math.sqrt(area / shape)
        if width <= aspect and height <= 1:
            return draw.uniform(0, 1 - height), draw.uniform(0, aspect - width), height, width
    shape = min(max(aspect, ratio[0]), ratio[1])
    width, height = min(aspect, shape), min(1.0, aspect / shape)
    return (1 - height) / 2, (aspect - width) / 2, height, width


def _overlap(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Share of `other` that lies in `box`."""
    height, width = (
        min(box[i] + box[i + 2], other[i] + other[i + 2]) - max(box[i], other[i]) for i in range(2)
    )
    return max(height, 0) * max(width, 0) / (other[2] * other[3])

"""Where in a run a step stands; all that a method draws or schedules is a function of it."""

import math
from typing import NamedTuple

import numpy as np

from cp2.drawing import counters


class Step(NamedTuple):
    """The step that is about to be made: `number` of `total`, from 0."""

    number: int
    total: int
    seed: int

    def generator(self, stream: int, view: int = 0) -> np.random.Generator:
        """Random numbers of this step for all processes alike."""
        return counters.generator(self.seed, stream, self.number, view)


def rising_momentum(first: float, last: float | None, step: Step) -> float:
    """The key encoder's momentum at the start of a step (BYOL's schedule; PixCon release).

    m(t) = last - (last - first) (1 + cos(pi t / total)) / 2 belongs to the update after step t,
    which is made at the start of step t + 1. (The one before step 0 changes nothing.)
    """
    if last is None:
        return first
    done = max(step.number - 1, 0) / step.total
    return last - (last - first) * (1 + math.cos(math.pi * done)) / 2

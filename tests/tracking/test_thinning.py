"""Of a run's lines at most so many are sent, which stay the same while it grows."""

from itertools import pairwise

import pytest

from cp2.record.tail import START, LogLine
from cp2.tracking.run_import import MOST_POINTS, thin


def _lines(steps: range) -> list[LogLine]:
    return [LogLine({"step": step}, START._replace(step=step)) for step in steps]


def _steps(lines: list[LogLine], sent: int, steps: int | None, finished: bool) -> list[int]:
    return [line.end.step for line in thin(lines, sent, steps, finished)]


@pytest.mark.parametrize("every", [1, 7, 50])
@pytest.mark.parametrize("steps", [1, 197, 198, 199, 200, 1000, 123457])
def test_the_first_line_of_each_part_and_the_last(steps: int, every: int) -> None:
    logged = range(every, steps + 1, every)
    found = _steps(_lines(logged), -1, steps, finished=True)
    assert len(found) <= MOST_POINTS
    assert found == sorted(set(found))
    if logged:
        assert (found[0], found[-1]) == (logged[0], logged[-1])
        gaps = [after - before for before, after in pairwise(found)]
        assert max(gaps, default=0) <= steps / (MOST_POINTS - 2) + every
    if len(logged) < MOST_POINTS // 2:
        assert found == list(logged)


@pytest.mark.parametrize("pieces", [2, 3, 10, 333])
def test_a_growing_run_sends_what_it_sends_at_once(pieces: int) -> None:
    steps = 2000
    at_once = _steps(_lines(range(1, steps + 1)), -1, steps, finished=True)
    sent = [-1]
    for end in [steps * n // pieces for n in range(1, pieces + 1)]:
        new = _lines(range(max(1, sent[-1] + 1), end + 1))
        sent += _steps(new, sent[-1], steps, finished=end == steps)
    assert sent[1:] == at_once


def test_where_the_number_of_steps_is_not_known_a_run_sends_not_much_more() -> None:
    sent = [-1]
    for end in range(10, 10001, 10):
        sent += _steps(_lines(range(max(1, sent[-1] + 1), end + 1)), sent[-1], None, end == 10000)
    assert len(sent) < 5 * MOST_POINTS
    assert sent == sorted(set(sent))
    assert sent[-1] == 10000


def test_an_unthinned_store_gets_what_comes_after() -> None:
    """As earlier versions left it."""
    assert _steps(_lines(range(501, 1001)), 500, 1000, finished=True)[0] in range(501, 508)

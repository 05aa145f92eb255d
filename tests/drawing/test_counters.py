import numpy as np
import pytest

from cp2.drawing import counters


def test_equal_counters_give_equal_numbers():
    first = counters.generator(3, counters.VIEWS, 5, 7).random(100)
    assert np.array_equal(first, counters.generator(3, counters.VIEWS, 5, 7).random(100))


@pytest.mark.parametrize(
    "other", [(4, 3, 5, 7), (3, 4, 5, 7), (3, 3, 6, 7), (3, 3, 5, 8), (3, 3, 7, 5), (3, 3, 5)]
)
def test_any_other_counter_gives_unrelated_numbers(other):
    first = counters.generator(3, 3, 5, 7).random(5000)
    second = counters.generator(*other).random(5000)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06  # 4 standard errors


def test_neighbouring_positions_do_not_overlap():
    """Samples 0, 1, 2, ... sit at distant places of the stream, however much each draws."""
    draws = np.concatenate([counters.generator(0, 3, 0, i).random(1000) for i in range(50)])
    assert len(np.unique(draws)) == len(draws)


def test_draws_over_samples_are_uniform():
    first = np.array([counters.generator(0, 3, 0, i).random() for i in range(4000)])
    share, _ = np.histogram(first, bins=10, range=(0, 1))
    assert np.abs(share - 400).max() < 80  # 4 standard errors


def test_golden_numbers():
    """A change of these would silently change every run under its old id."""
    assert counters.generator(1, 2, 3, 4).integers(1000, size=4).tolist() == [883, 95, 57, 964]


def test_permutation_visits_each_image_once_and_changes_with_the_epoch():
    orders = [counters.permutation(101, 0, counters.FOREGROUND_ORDER, e) for e in range(3)]
    for order in orders:
        assert sorted(order) == list(range(101))
    assert not np.array_equal(orders[0], orders[1])
    other = counters.permutation(101, 0, counters.BACKGROUND_KEY_ORDER, 0)
    assert not np.array_equal(orders[0], other)


@pytest.mark.parametrize("wrong", [(0, 0, 1, 2, 3, 4), (-1, 0), (0, 0, -5)])
def test_impossible_counters(wrong):
    with pytest.raises(ValueError, match="counters"):
        counters.generator(*wrong)


def test_large_seeds():
    assert counters.generator(2**64 - 1, 0).random() != counters.generator(0, 0).random()

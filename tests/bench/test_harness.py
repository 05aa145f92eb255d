"""The stopwatch and the order of rounds, by a clock that the tests turn themselves."""

import pytest
import torch

from benchmarks import harness
from benchmarks.harness import OVER, Stopwatch, Variant, alternate
from cp2.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is told to move."""

    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(harness, "time", made)
    return made


def test_warmup_is_not_counted(clock):
    watch = Stopwatch(warmup=2, steps=3, samples=4, device=CPU)
    for seconds in (50.0, 9.0, 1.0, 2.0, 3.0):
        assert not watch.over
        with watch.waiting():
            clock.now += seconds / 4
        clock.now += seconds * 3 / 4
        watch.lap()
    assert watch.over
    timing = watch.timing()
    assert timing.steps == (1.0, 2.0, 3.0)
    assert (timing.samples, timing.seconds, timing.samples_per_second) == (12, 6.0, 2.0)
    assert timing.waited == 1.5
    assert timing.device_mib is None


def test_a_turn_lasts_at_least_so_many_seconds(clock):
    watch = Stopwatch(warmup=1, steps=1, samples=1, device=CPU, seconds=2.5)
    watch.lap()
    for _ in range(3):
        assert not watch.over
        clock.now += 1.0
        watch.lap()
    assert watch.over
    assert len(watch.timing().steps) == 3


def test_as_a_deadline_it_stops_our_loops_after_the_last_step(clock):
    watch = Stopwatch(warmup=1, steps=2, samples=1, device=CPU)
    assert [watch.reason() for _ in range(3)] == [None, None, OVER]
    assert watch.timing().waited is None


def test_whole_work_is_one_step(clock):
    watch = Stopwatch(warmup=3, steps=10, samples=24, device=CPU)
    with watch.whole():
        clock.now += 4.0
    assert watch.timing().steps == (4.0,)
    assert watch.timing().samples_per_second == 6.0


def test_work_that_ends_early_is_an_error():
    watch = Stopwatch(warmup=1, steps=5, samples=1, device=CPU)
    watch.lap()
    with pytest.raises(UserError, match="only 1 of 6 steps"):
        watch.timing()


def test_ways_take_turns(clock):
    order, lines = [], []

    def variant(name, seconds):
        def run(watch):
            order.append(name)
            while not watch.over:
                clock.now += seconds
                watch.lap()

        return Variant(name, run, samples=2, role="ours", warmup=1, steps=2)

    timings = alternate([variant("slow", 2.0), variant("fast", 0.5)], 3, CPU, lines.append)
    assert order == ["slow", "fast"] * 3
    assert [timing.samples_per_second for timing in timings["fast"]] == [4.0] * 3
    assert len(lines) == 6
    with pytest.raises(UserError, match="0 rounds"):
        alternate([], 0, CPU, lines.append)


def test_too_large_for_the_gpu_says_what_to_lower():
    def run(watch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match=r"big does not fit .* lower --batch"):
        alternate([Variant("big", run, 1, "ours")], 1, CPU, print)


@pytest.mark.parametrize(("options", "searched"), [({}, True), ({"one_size": False}, False)])
def test_all_ways_have_the_fastest_convolutions(monkeypatch, options, searched):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not searched)
    seen = []

    def run(watch):
        seen.append(torch.backends.cudnn.benchmark)
        while not watch.over:
            watch.lap()

    variants = [Variant("published", run, 1, "published"), Variant("ours", run, 1, "ours")]
    alternate(variants, 1, CPU, lambda line: None, **options)
    assert seen == [searched, searched]

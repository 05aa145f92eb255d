from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch

from cp2.augment.prefetch import prefetch, side_stream


class Prepared(NamedTuple):
    images: object
    mask: object


def test_on_a_cpu_content_is_made_when_it_is_asked_for():
    made = []

    def make(number):
        made.append(number)
        return Prepared(torch.tensor(number), None)

    contents = []
    for batch, content in prefetch(iter([1, 2, 3]), make, torch.device("cpu")):
        assert batch not in made
        contents.append(content().images.item())
    assert contents == made == [1, 2, 3]


def test_errors_of_the_batches_arrive():
    def broken():
        yield 1
        raise ValueError("broken file")

    stream = prefetch(broken(), lambda n: Prepared(n, None), torch.device("cpu"))
    next(stream)
    with pytest.raises(ValueError, match="broken file"):
        next(stream)


class FakeStreams:
    """Writes down what is asked of the streams, and on which stream work would run."""

    def __init__(self, monkeypatch):
        self.log = []
        self.current = "main"
        for name, fake in (
            ("Stream", lambda device: FakeStream(self, "side")),
            ("stream", self.stream),
            ("current_stream", lambda: FakeStream(self, self.current)),
        ):
            monkeypatch.setattr(torch.cuda, name, fake)

    @contextmanager
    def stream(self, stream):
        self.current = stream.name
        yield
        self.current = "main"


class FakeStream:
    def __init__(self, world, name):
        self.world, self.name = world, name

    def record_event(self):
        number = sum(entry[0] == f"{self.name} event" for entry in self.world.log)
        self.world.log.append((f"{self.name} event", number))
        return FakeEvent(self.world, f"{self.name} event", number)

    def wait_event(self, event):
        self.world.log.append((f"{self.name} waits for", event.name, event.number))


class FakeEvent:
    def __init__(self, world, name, number):
        self.world, self.name, self.number = world, name, number

    def synchronize(self):
        self.world.log.append(("host waits for", self.name, self.number))


class FakeTensor:
    def __init__(self, world, number):
        self.world, self.number = world, number

    def record_stream(self, stream):
        self.world.log.append((f"used on {stream.name}", self.number))


def test_on_a_gpu_the_next_batch_is_made_beside_the_step(monkeypatch):
    world = FakeStreams(monkeypatch)

    def make(number):
        world.log.append((f"made on {world.current}", number))
        return Prepared(FakeTensor(world, number), None)

    side_stream.cache_clear()
    for batch, content in prefetch(iter([0, 1]), make, torch.device("cuda")):
        assert content().images.number == batch
        world.log.append(("step launched", batch))
    assert world.log == [
        ("made on side", 0),
        ("side event", 0),
        ("main waits for", "side event", 0),
        ("used on main", 0),
        ("main event", 0),
        ("step launched", 0),
        ("made on side", 1),  # before the host waits for anything: the device works on step 0
        ("side event", 1),
        ("main waits for", "side event", 1),
        ("used on main", 1),
        ("main event", 1),
        ("host waits for", "main event", 0),
        ("step launched", 1),
    ]
    side_stream.cache_clear()


def test_one_stream_a_process(monkeypatch):
    """Memory that is freed on one stream is not given out on another: each new one takes anew."""
    FakeStreams(monkeypatch)
    made = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(device) or FakeStream)
    side_stream.cache_clear()
    assert side_stream(torch.device("cuda")) is side_stream(torch.device("cuda"))
    assert len(made) == 1
    side_stream.cache_clear()

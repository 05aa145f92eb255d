"""For the tests of every room."""

import gc
import os
import signal

import pytest


def pytest_sessionstart() -> None:
    """Files of tests need not outlive the machine: they do not wait for its disk. Commands that
    tests start may be interrupted, even where the tests run in the background of a shell."""
    os.fsync = lambda file: None
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for a scheduler comes first: the other processes work meanwhile."""
    items.sort(key=lambda item: item.get_closest_marker("slurm") is None)


def pytest_collection_finish() -> None:
    """What was imported stays: no collection of garbage, of which benches ask for many, looks
    through it again."""
    gc.collect()
    gc.freeze()

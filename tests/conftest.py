"""For the tests of every room."""

import gc
import os


def pytest_sessionstart() -> None:
    """Files of tests need not outlive the machine: they do not wait for its disk."""
    os.fsync = lambda file: None


def pytest_collection_finish() -> None:
    """What was imported stays: no collection of garbage, of which benches ask for many, looks
    through it again."""
    gc.collect()
    gc.freeze()

"""For the tests of every room."""

import gc


def pytest_collection_finish() -> None:
    """What was imported stays: no collection of garbage, of which benches ask for many, looks
    through it again."""
    gc.collect()
    gc.freeze()

"""Linear SVMs of frozen features: the runner."""

from typing import Any


def evaluate(*given: Any) -> Any:
    """See `evaluation.evaluate`; imported when called, because processes that fit need no torch."""
    from cp2.protocols.svm.evaluation import evaluate

    return evaluate(*given)

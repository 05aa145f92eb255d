"""Random numbers as a function of counters, so that a batch never depends on what came before it.

Every draw comes from a Philox generator addressed by (seed, stream, epoch, ...).
The batch after a resume, or with another number of workers, is therefore the batch that would
have come anyway.
"""

import numpy as np

# Streams: independent sequences under one seed. The numbers are part of every run; never reuse one.
FOREGROUND_ORDER = 0
BACKGROUND_QUERY_ORDER = 1
BACKGROUND_KEY_ORDER = 2
VIEWS = 3
MASKS = 4
FINETUNE_ORDER = 5
FINETUNE_SAMPLES = 6
FINETUNE_DROPOUT = 7
KEY_SHUFFLE = 8
REPLACEMENTS = 9
QUEUE_VIEW = 10
MATCHES = 11
QUEUED_POSITIONS = 12
DETECTION_ORDER = 13
DETECTION_SAMPLES = 14


def generator(seed: int, stream: int, *position: int) -> np.random.Generator:
    """The generator at `position` (up to three counters, such as epoch and sample) of a stream.

    Equal counters give equal numbers on every machine; different ones give independent numbers:
    seed and stream are Philox' key, the position is the upper part of its 256-bit counter, whose
    lowest word is left to the draws.

    Raises:
        ValueError: a counter is negative or there are more than three.
    """
    if len(position) > 3 or min(seed, stream, *position) < 0:
        raise ValueError(
            f"counters {(seed, stream, *position)}: seed and stream and up to 3 more, none negative"
        )
    counter = [0, *position, *([0] * (3 - len(position)))]
    # Explicit uint64: numpy refuses Python lists that hold numbers of 2**63 and more.
    return np.random.Generator(
        np.random.Philox(
            key=np.array([seed, stream], dtype=np.uint64),
            counter=np.array(counter, dtype=np.uint64),
        )
    )


def permutation(n: int, seed: int, stream: int, epoch: int) -> np.ndarray:
    """The order, (n,) int64, in which a stream visits n images in one epoch."""
    return generator(seed, stream, epoch).permutation(n)

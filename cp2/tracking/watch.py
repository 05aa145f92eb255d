"""A live view: import again and again while jobs run."""

import time
from collections.abc import Iterator

from cp2.errors import UserError
from cp2.tracking.mlflow_import import Tracker

LONGEST_PAUSE = 300.0  # seconds between two questions to a store that does not answer


def watch(tracker: Tracker, seconds: float, verify: bool = False) -> Iterator[str]:
    """Import every so many seconds until all runs of the plan are done; yields what to print.

    What cannot be done now, for the store does not answer or another import works, is tried again
    after twice the time each try up to `LONGEST_PAUSE`; jobs never notice, for they only write
    files.
    """
    pause = seconds
    last = None
    while True:
        try:
            summary = tracker.track(verify)
        except UserError as error:  # the store is away, or another import takes long
            pause = min(2 * pause, max(LONGEST_PAUSE, seconds))
            yield f"{error}\nnext try in {pause:.0f} s"
        else:
            pause, verify = seconds, False
            if summary.points or summary.created or str(summary) != last:
                yield "\n".join([str(summary), *summary.problems])
            last = str(summary)
            if summary.finished:
                return
        time.sleep(pause)

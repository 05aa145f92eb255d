"""Imports for others: a live view while jobs run, and a note for the report."""

import time
from collections.abc import Iterator
from pathlib import Path

from cp2.errors import UserError
from cp2.plan.graph import Plan
from cp2.record.files import write_text
from cp2.record.mlflow_links import add_failed, drop_foreign_links
from cp2.settings.load import Configuration
from cp2.tracking.mlflow_import import Tracker, TrackSummary, default_uri
from cp2.tracking.store import StoreError

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


def import_and_note(
    note: Path,
    configuration: Configuration,
    plan: Plan,
    uri: str | None = None,
    upload_models: bool = False,
    verify: bool = False,
) -> TrackSummary | StoreError:
    """Import once and write to `note` what happened; a store that refuses is counted.

    Links that an earlier import into the same store left stay, for they still lead there; those
    into another one are dropped.

    Raises:
        UserError: anything else that is wrong; then, as after an interrupt, there is no new note.
    """
    result: TrackSummary | StoreError
    try:
        result = Tracker(configuration, plan, uri, upload_models).track(verify)
    except StoreError as error:
        result = error
        drop_foreign_links(configuration.reports, uri or default_uri(configuration))
        add_failed(configuration.reports)
        text = f"not imported:\nerror: {error}\n"
    else:
        text = "".join(f"{line}\n" for line in (result, *result.problems))
    write_text(note, text)
    return result

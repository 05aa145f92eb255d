"""An import that leaves a note for the report, which a store that refuses must not stop."""

from pathlib import Path

from cp2.plan.graph import Plan
from cp2.record.failed_imports import add_failed
from cp2.record.files import write_text
from cp2.record.mlflow_links import drop_foreign_links
from cp2.settings.load import Configuration
from cp2.tracking.mlflow_import import Tracker, TrackSummary, default_uri
from cp2.tracking.store import StoreError


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

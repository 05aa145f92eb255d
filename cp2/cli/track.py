"""`cp2 track`: the runs' records into MLflow."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cp2.cli.app import LOOK, CampaignOptions, command
from cp2.errors import UserError

if TYPE_CHECKING:
    from cp2.tracking.mlflow_import import TrackSummary

_SECONDS = 15.0


@command(LOOK)
def track(
    options: CampaignOptions,
    seconds: Annotated[
        float | None, typer.Argument(help="with --watch: seconds between imports; default 15")
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(help="MLflow tracking URI; default: MLFLOW_TRACKING_URI, else SQLite"),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="import until all runs are done")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="ask MLflow what it has; brings deleted runs back")
    ] = False,
    upload_models: Annotated[
        bool, typer.Option("--upload-models", help="send the models' files, too")
    ] = False,
    note: Annotated[
        Path | None,
        typer.Option(help="write here what happened; a store that refuses is then no failure"),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="write curves for TensorBoard there; nothing into MLflow")
    ] = None,
    wandb: Annotated[
        Path | None, typer.Option(help="write W&B's offline runs there; nothing into MLflow")
    ] = None,
) -> None:
    """Import the records of all runs into MLflow; repeating it adds only what is new."""
    if seconds is not None and not (watch and 1 <= seconds <= 86400):
        raise UserError(f"{seconds:g}: write `cp2 track --watch SECONDS`, from 1 to 86400")
    if note is not None and watch:
        raise UserError("--note is about one import; leave --watch or --note out")
    configuration, plan = options.load()
    if tensorboard is not None:
        from cp2.tracking.curves import write_events

        print(f"{tensorboard}: {write_events(plan, configuration.results, tensorboard)} runs")
    if wandb is not None:
        from cp2.tracking.curves import write_wandb

        name = configuration.campaign.name
        print(f"{wandb}: {write_wandb(plan, configuration.results, wandb, name)} runs")
    if tensorboard is not None or wandb is not None:
        return
    from cp2.tracking.mlflow_import import Tracker
    from cp2.tracking.store import StoreError
    from cp2.tracking.watch import import_and_note
    from cp2.tracking.watch import watch as watching

    if note is not None:
        result = import_and_note(note, configuration, plan, uri, upload_models, verify)
        if isinstance(result, StoreError):
            print(f"not imported: {result}", file=sys.stderr)
        else:
            _tell(result)
        return
    tracker = Tracker(configuration, plan, uri, upload_models)
    if not watch:
        _tell(tracker.track(verify))
        return
    try:
        for text in watching(tracker, seconds or _SECONDS, verify):
            print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
    except KeyboardInterrupt:
        return


def _tell(summary: "TrackSummary") -> None:
    for problem in summary.problems:
        print(f"left out: {problem}", file=sys.stderr)
    print(summary)

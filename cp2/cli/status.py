"""`cp2 status`: how far a campaign is."""

import json
import os
import shutil
import sys
import time
from typing import Annotated

import typer

from cp2.cli.app import LOOK, CampaignOptions, command
from cp2.errors import UserError

_CLEAR = "\x1b[H\x1b[2J\x1b[3J"  # ANSI: home, clear the screen and what was scrolled off
_SECONDS = 5.0


@command(LOOK)
def status(
    options: CampaignOptions,
    seconds: Annotated[
        float | None, typer.Argument(help="with --watch: seconds between two looks; default 5")
    ] = None,
    table: Annotated[str | None, typer.Option(help="this table only")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="look again until all is done")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="for other programs")] = False,
) -> None:
    """Show each table's cells: done, running, waiting, failed or missing, and why."""
    from cp2.plan.progress.listing import status_json, status_listing
    from cp2.plan.progress.status import campaign_status
    from cp2.settings.messages import nearest

    if seconds is not None and not (watch and 0.1 <= seconds <= 86400):
        raise UserError(f"{seconds:g}: write `cp2 status --watch SECONDS`, from 0.1 to 86400")
    configuration, plan = options.load()
    if table is not None and table not in plan.tables:
        raise UserError(f"--table {table!r}: unknown; {nearest(table, plan.tables)}")
    terminal = sys.stdout.isatty()
    colours = terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    try:
        while True:
            found = campaign_status(plan, configuration.results, None if table is None else [table])
            size = shutil.get_terminal_size((120, 1000))
            if as_json:
                text = json.dumps(status_json(found), indent=None if watch else 2)
            else:
                text = status_listing(found, size.columns, colours)
            if watch and terminal and not as_json:
                text = _CLEAR + _fitted(text, size.lines - 1)
            print(text, flush=True)
            if not watch or all(run.state == "done" for run in found.runs.values()):
                return
            time.sleep(seconds or _SECONDS)
    except KeyboardInterrupt:
        return


def _fitted(text: str, height: int) -> str:
    """As many lines as the screen has, the totals at the end among them."""
    lines = text.splitlines()
    if len(lines) <= height or height < 4:
        return text
    left_out = len(lines) - height + 1
    return "\n".join([*lines[: height - 3], f"... {left_out} lines more ...", *lines[-2:]])

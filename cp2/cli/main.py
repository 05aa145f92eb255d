"""The entry point."""

import os
import sys
from typing import Any

from cp2.cli import bench, looks, plot, probe, stages, status, track, training, use
from cp2.cli.app import PANELS, app
from cp2.cluster.commands import this_user
from cp2.errors import UserError
from cp2.record.files import UNUSABLE
from cp2.stages import STAGES

# What an extra of pyproject.toml brings; tests/test_requirements.py holds it.
EXTRAS = {
    "workflow": ("contourpy", "jinja2", "matplotlib", "pandas", "tabulate"),
    "mlflow": ("mlflow",),
    "detection": ("pycocotools",),
}

# Imported to add their commands to `app`.
COMMANDS = (training, stages, looks, probe, status, track, plot, use, bench)


def _place(command: Any) -> tuple[int, int]:
    """Where `cp2 --help` lists a command: by panel, stages in the order of the pipeline."""
    stages = list(STAGES)
    name = command.callback.__name__
    return PANELS.index(command.rich_help_panel), stages.index(name) if name in stages else 0


app.registered_commands.sort(key=_place)


def main() -> None:
    """Messages for the user instead of tracebacks; a folder that is lost or full is the user's."""
    os.environ.setdefault("USER", this_user())  # libraries ask; a container may have no entry
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extra = next((name for name in EXTRAS if module in EXTRAS[name]), None)
        if extra is None:
            raise
        advice = f"pip install 'cp2-reproduction[{extra}]'"
        print(f"error: this needs {module}, which is not installed; {advice}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in UNUSABLE or error.filename is None:
            raise
        print(f"error: {error.filename}: {UNUSABLE[error.errno]}", file=sys.stderr)
        sys.exit(2)

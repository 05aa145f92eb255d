"""The command line's root: the applications, the options that all commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cp2.plan.build import build_plan
from cp2.plan.graph import Plan, Run
from cp2.plan.planned import VARIABLE, read_planned
from cp2.settings.load import Configuration, load_campaign

HELP = """One command a stage, and those that look at what is there.

`cp2 plan --campaign demo` lists the runs; `cp2 pretrain <run id> --campaign demo` makes one.
"""

app = typer.Typer(
    help=HELP, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)

CampaignOption = Annotated[
    str, typer.Option("--campaign", "-c", help="name in configs/, or a path to a YAML file")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="section.name.key=value; may be repeated")
]
RunArgument = Annotated[str, typer.Argument(help="run id, as `cp2 plan` lists it")]
DEFAULT = "demo"


def load(campaign: str, assignments: list[str] | None) -> tuple[Configuration, Plan]:
    """A campaign's settings and plan."""
    configuration = load_campaign(campaign, assignments or ())
    return configuration, build_plan(configuration)


def find(
    stage: str, run_id: str, campaign: str, assignments: list[str] | None
) -> tuple[Configuration, Run]:
    """A campaign's settings and one of its runs."""
    configuration = load_campaign(campaign, assignments or ())
    path = os.environ.get(VARIABLE)
    run = read_planned(Path(path), stage, run_id) if path else None
    return configuration, run or build_plan(configuration).run(stage, run_id)

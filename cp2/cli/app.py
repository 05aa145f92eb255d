"""The command line's root: the application, options that commands share."""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from cp2.cluster.commands import REQUEUE
from cp2.errors import UserError

if TYPE_CHECKING:  # settings and plan take longer to import than `cp2 --help` to print
    from cp2.plan.graph import Plan, Run
    from cp2.settings.load import Configuration

HELP = """One command a stage, and those that look at what is there.

`cp2 plan --runs --campaign demo` lists the runs; `cp2 pretrain <run id> --campaign demo` makes one.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        print(f"cp2 {metadata.version('cp2-reproduction')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print it and end")
    ] = False,
    project: Annotated[
        Path | None, typer.Option(help="folder with configs/; default: the current one")
    ] = None,
) -> None:
    if project is not None:
        if not (project / "configs").is_dir():
            raise UserError(f"--project {project}: has no configs/; `cp2 init` makes a project")
        os.chdir(project)


# Panels of `cp2 --help`.
PANELS = RUN, LOOK, USE, MEASURE, DEMO = "Run", "Look", "Use", "Measure", "Demo"

RunArgument = Annotated[str, typer.Argument(help="run id, as `cp2 plan --runs` lists it")]
Function = TypeVar("Function", bound=Callable[..., None])


@dataclass(frozen=True)
class CampaignOptions:
    """Options of every command."""

    campaign: Annotated[
        str, typer.Option("--campaign", "-c", help="name in configs/, or a path to a YAML file")
    ] = "demo"
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="section.name.key=value; may be repeated")
    ] = None

    def configuration(self) -> "Configuration":
        """The campaign's settings."""
        from cp2.settings.load import load_campaign

        return load_campaign(self.campaign, self.assignments or ())

    def load(self) -> "tuple[Configuration, Plan]":
        """The campaign's settings and plan."""
        from cp2.plan.build import build_plan

        configuration = self.configuration()
        return configuration, build_plan(configuration)

    def find(self, stage: str, run_id: str) -> "tuple[Configuration, Run]":
        """The campaign's settings and one of its runs."""
        from cp2.plan.build import build_plan
        from cp2.plan.planned import VARIABLE, read_planned

        configuration = self.configuration()
        path = os.environ.get(VARIABLE)
        run = read_planned(Path(path), stage, run_id) if path else None
        return configuration, run or build_plan(configuration).run(stage, run_id)


def in_job() -> bool:
    """Whether Snakemake started this command."""
    from cp2.plan.planned import VARIABLE

    return VARIABLE in os.environ


def in_local_job() -> bool:
    """Whether Snakemake started it on its own machine: there it waits for other processes that a
    killed Snakemake left, and in a scheduler's job it does not hold a GPU for that."""
    return in_job() and REQUEUE not in os.environ


def command(panel: str | None = None, group: typer.Typer = app) -> Callable[[Function], Function]:
    """Add a function to the commands of a group.

    A parameter whose type is a dataclass stands for the dataclass's fields, each an option.
    """

    def register(function: Function) -> Function:
        group.command(rich_help_panel=panel)(_with_fields_as_options(function))
        return function

    return register


def _with_fields_as_options(function: Callable[..., None]) -> Callable[..., None]:
    kinds = get_type_hints(function, include_extras=True)
    objects: dict[str, Any] = {name: kind for name, kind in kinds.items() if is_dataclass(kind)}
    shown = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in objects:
            hints = get_type_hints(objects[name], include_extras=True)
            shown += [
                inspect.Parameter(
                    field.name, parameter.KEYWORD_ONLY, default=field.default, annotation=hint
                )
                for field in fields(objects[name])
                for hint in [hints[field.name]]
            ]
        else:
            shown.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=kinds[name]))

    @wraps(function)
    def called(**given: Any) -> None:
        made = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            for name, kind in objects.items()
        }
        function(**made, **given)

    called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return called

"""The command line: one command a stage, plus plan, report, track and bench.

`cp2 plan --campaign demo` lists the runs; `cp2 pretrain <run id> --campaign demo` makes one.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.plan.graph import STAGES, Plan, Run
from cp2.settings.campaign import Execution
from cp2.settings.load import Configuration, load_campaign
from cp2.settings.messages import nearest
from cp2.training.clock import RESUME_EXIT_CODE, Deadline, StoppedForResumeError

app = typer.Typer(
    help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)
bench = typer.Typer(help="Measure speed beside the published recipe.", no_args_is_help=True)
app.add_typer(bench, name="bench")

CampaignOption = Annotated[
    str, typer.Option("--campaign", "-c", help="name in configs/, or a path to a YAML file")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="section.name.key=value; may be repeated")
]
RunArgument = Annotated[str, typer.Argument(help="run id, as `cp2 plan` lists it")]
MinutesOption = Annotated[
    float | None, typer.Option("--max-minutes", help="save and leave with code 85 after this time")
]
DEFAULT = "demo"


def main() -> None:
    """Entry point: messages for the user instead of tracebacks."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _load(campaign: str, assignments: list[str] | None) -> tuple[Configuration, Plan]:
    configuration = load_campaign(campaign, assignments or ())
    return configuration, build_plan(configuration)


def _find(
    stage: str, run_id: str, campaign: str, assignments: list[str] | None
) -> tuple[Configuration, Run]:
    configuration, plan = _load(campaign, assignments)
    return configuration, plan.run(stage, run_id)


def _train(
    loop: Callable[[Run, Path, Execution, Deadline], None],
    configuration: Configuration,
    run: Run,
    max_minutes: float | None,
) -> None:
    """Hold the run for this process and train it, unless it is done already.

    A saved, unfinished run leaves with its own exit code; `retries` makes that a resume.
    """
    deadline = Deadline(max_minutes)
    folder = run.folder(configuration.results)
    try:
        with folder.locked():
            if run.is_done(configuration.results):
                print(f"{run.key} is done; to make it again delete {folder.path}")
                return
            deadline.listen()
            loop(run, configuration.results, configuration.campaign.execution, deadline)
    except StoppedForResumeError as stopped:
        print(stopped, file=sys.stderr)
        raise typer.Exit(RESUME_EXIT_CODE) from None


@app.command()
def plan(
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
    stage: Annotated[str | None, typer.Option(help="list this stage only")] = None,
) -> None:
    """Print every run with what it needs and its state: done, ready or blocked."""
    from cp2.plan.listing import listing

    if stage is not None and stage not in STAGES:
        raise UserError(f"--stage {stage!r}: unknown; {nearest(stage, STAGES)}")
    configuration, whole = _load(campaign, assignments)
    print(listing(configuration, whole, stage))


@app.command()
def world(campaign: CampaignOption = DEFAULT, assignments: SetOption = None) -> None:
    """Draw the demo world's archives."""
    from cp2.data.world import write_world
    from cp2.plan.recipes import WorldRecipe

    configuration, run = _find("world", "scenes", campaign, assignments)
    assert isinstance(run.recipe, WorldRecipe)
    for path in write_world(run.folder(configuration.results).path, run.recipe.world):
        print(path)


@app.command()
def publish(
    name: RunArgument,
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
) -> None:
    """Write a pretraining of the demo world as a checkpoint file in MoCo's official format."""
    from cp2.training.checkpoints import publish_checkpoint

    configuration, run = _find("publish", name, campaign, assignments)
    print(publish_checkpoint(run, configuration.results))


@app.command()
def dataset(
    name: RunArgument,
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
) -> None:
    """Find or download a data set's archives, check, unpack and index them."""
    from cp2.data.preparers import prepare
    from cp2.plan.recipes import DatasetRecipe
    from cp2.plan.sources import downloads, mirrors

    configuration, run = _find("dataset", name, campaign, assignments)
    assert isinstance(run.recipe, DatasetRecipe)
    record = prepare(
        run.recipe.dataset,
        run.recipe.classes,
        run.folder(configuration.results).path,
        mirrors(configuration),
        downloads(configuration),
    )
    counts = ", ".join(f"{split} {found.images}" for split, found in record.splits.items())
    print(f"{name}: {counts} images")


@app.command()
def checkpoint(
    name: RunArgument,
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
) -> None:
    """Find or download a published backbone, check it and read it into this project's format."""
    from cp2.plan.sources import downloads, mirrors
    from cp2.training.checkpoints import import_checkpoint

    configuration, run = _find("checkpoint", name, campaign, assignments)
    import_checkpoint(run, configuration.results, mirrors(configuration), downloads(configuration))


@app.command()
def pretrain(
    run_id: RunArgument,
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
    max_minutes: MinutesOption = None,
) -> None:
    """Pretrain one model, or go on with it."""
    from cp2.training.pretrain import pretrain as loop

    _train(loop, *_find("pretrain", run_id, campaign, assignments), max_minutes)


@app.command()
def finetune(
    run_id: RunArgument,
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
    max_minutes: MinutesOption = None,
) -> None:
    """Finetune one model on a labelled data set, or go on with it."""
    from cp2.training.finetune import finetune as loop

    _train(loop, *_find("finetune", run_id, campaign, assignments), max_minutes)


@app.command()
def evaluate(
    run_id: RunArgument,
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
) -> None:
    """Score one finetuned model on its validation split."""
    from cp2.evaluation.evaluate import evaluate as score

    configuration, run = _find("evaluate", run_id, campaign, assignments)
    score(run, configuration.results, configuration.campaign.execution)


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="table, as the campaign names it")],
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
) -> None:
    """Write one table as Markdown, CSV and LaTeX from the scores that are there."""
    from cp2.reporting.report import write_table

    configuration, whole = _load(campaign, assignments)
    print(write_table(configuration, whole, name))


@app.command()
def report(campaign: CampaignOption = DEFAULT, assignments: SetOption = None) -> None:
    """Write every table, figure and the HTML page from the runs that are there."""
    from cp2.reporting.report import write_report

    configuration, whole = _load(campaign, assignments)
    print(write_report(configuration, whole))


@app.command()
def track(
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
    uri: Annotated[str | None, typer.Option(help="MLflow tracking URI; default: SQLite")] = None,
) -> None:
    """Import the records of all runs into MLflow; repeating it adds only what is new."""
    from cp2.tracking.mlflow_import import track as import_runs

    configuration, whole = _load(campaign, assignments)
    print(import_runs(configuration, whole, uri))


@bench.command("data")
def bench_data_command(
    images: Annotated[
        Path | None, typer.Argument(help="folder of photographs; none: synthetic ones")
    ] = None,
    seconds: Annotated[float, typer.Option(help="time to measure for, about")] = 60.0,
    rounds: Annotated[int, typer.Option(help="alternating rounds; medians are printed")] = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="write the figures here, too")
    ] = None,
) -> None:
    """Input pipeline on one core: the published recipe, ours, and JPEG decoding alone."""
    from cp2.bench.data import bench_data
    from cp2.record.files import write_json

    paths = sorted(p for p in images.rglob("*") if p.is_file()) if images else None
    if images and not paths:
        raise UserError(f"{images}: no files; name a folder of photographs")
    figures = bench_data(paths, seconds=seconds, rounds=rounds)
    if json_file:
        write_json(json_file, figures)


if __name__ == "__main__":
    main()

"""One command a stage; those that can be stopped and resumed are in training.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cp2.cli.app import (
    DEMO,
    RUN,
    CampaignOptions,
    RunArgument,
    command,
    in_job,
    in_local_job,
)

if TYPE_CHECKING:
    from cp2.record.folder import RunFolder

Part = Annotated[str, typer.Argument(help="scenes, voc2007, or coco2017")]


@command(DEMO)
def world(options: CampaignOptions, part: Part = "scenes") -> None:
    """Draw the demo world's archives."""
    from cp2.data.world import write_world
    from cp2.plan.recipes import WorldRecipe

    configuration, run = options.find("world", part)
    assert isinstance(run.recipe, WorldRecipe)
    for path in write_world(run.folder(configuration.results).path, run.recipe.world, part):
        print(path)


@command(DEMO)
def publish(name: RunArgument, options: CampaignOptions) -> None:
    """Write a pretraining of the demo world as a checkpoint file in MoCo's official format."""
    from cp2.models.checkpoint_stage import publish_checkpoint

    configuration, run = options.find("publish", name)
    print(publish_checkpoint(run, configuration.results))


@command(RUN)
def dataset(name: RunArgument, options: CampaignOptions) -> None:
    """Find or download a data set's archives, check, unpack and index them."""
    from cp2.data.preparers import prepare
    from cp2.plan.recipes import DatasetRecipe
    from cp2.plan.sources import downloads, mirrors

    configuration, run = options.find("dataset", name)
    assert isinstance(run.recipe, DatasetRecipe)
    folder = run.folder(configuration.results)
    with _attempt(folder):
        record = prepare(
            run.recipe.dataset,
            run.recipe.classes,
            folder.path,
            mirrors(configuration),
            downloads(configuration),
        )
    counts = ", ".join(f"{split} {found.images}" for split, found in record.splits.items())
    print(f"{name}: {counts} images", *record.notes, sep="\n  ")


@command(RUN)
def checkpoint(name: RunArgument, options: CampaignOptions) -> None:
    """Find or download a published backbone, check it and read it into this project's format."""
    from cp2.models.checkpoint_stage import import_checkpoint
    from cp2.plan.sources import downloads, mirrors

    configuration, run = options.find("checkpoint", name)
    results = configuration.results
    with _attempt(run.folder(results)):
        import_checkpoint(run, results, mirrors(configuration), downloads(configuration))


@command(RUN)
def evaluate(run_id: RunArgument, options: CampaignOptions) -> None:
    """Score one model by its protocol on a validation split."""
    from cp2.models.devices import check_gpus, choose_device, device_name
    from cp2.protocols.registry import evaluate as score
    from cp2.record.attempts import recorded

    configuration, run = options.find("evaluate", run_id)
    results = configuration.results
    folder = run.folder(results)
    with folder.locked(wait=in_local_job()):
        if in_job() and (run.is_done(results) or run.take_back(results)):
            print(f"{run.key} was finished by another process")
            return
        with recorded(folder.path, device_name(choose_device())):
            run.check_needs(results)
            print(check_gpus(1), flush=True)
            score(run, results, configuration.campaign.execution)


@contextmanager
def _attempt(folder: "RunFolder") -> Iterator[None]:
    """Hold a run for this process and record how the attempt at it goes."""
    from cp2.record.attempts import recorded

    with folder.locked(wait=in_local_job()), recorded(folder.path, "cpu"):
        yield

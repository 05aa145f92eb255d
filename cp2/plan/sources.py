"""What can be known before anything runs about files that have no public URL."""

from pathlib import Path

from cp2.plan.graph import Plan
from cp2.plan.recipes import DatasetRecipe
from cp2.settings.checkpoints import CheckpointSettings, StandIn
from cp2.settings.load import Configuration


def downloads(configuration: Configuration) -> Path:
    """Folder for downloaded archives."""
    return configuration.results / "downloads"


def mirrors(configuration: Configuration) -> list[Path]:
    """Folders searched for archives before any download."""
    return [Path(folder) for folder in configuration.campaign.execution.mirrors]


def missing_checkpoint(configuration: Configuration, settings: CheckpointSettings) -> str | None:
    """Why a checkpoint cannot be had: it has no public URL and lies in no mirror; else None."""
    archive = settings.archive
    if archive.urls:
        return None
    folders = [*mirrors(configuration), downloads(configuration)]
    if any((folder / archive.file).is_file() for folder in folders):
        return None
    manual = f" {archive.manual}" if archive.manual else ""
    own = " With campaign.stand_ins: true one is pretrained here." if settings.stand_in else ""
    return f"{archive.file} has no public URL and is not in {folders[0]}.{manual}{own}"


def stand_in(configuration: Configuration, settings: CheckpointSettings) -> StandIn | None:
    """What is pretrained here in place of a checkpoint that cannot be had, if the campaign asks."""
    if configuration.campaign.stand_ins and missing_checkpoint(configuration, settings):
        return settings.stand_in
    return None


def files_to_unpack(plan: Plan, results: Path) -> tuple[int, bool]:
    """Images, and a label for each where there are labels, of data sets that are not made yet.

    And whether that is all: of some, as of the demo's, no number of images is known.
    """
    left = [
        run.recipe.dataset
        for run in plan.stage("dataset")
        if isinstance(run.recipe, DatasetRecipe) and not run.is_done(results)
    ]
    unpacked = [dataset for dataset in left if dataset.archives and dataset.unpack]
    files = sum(
        (1 + (dataset.classes is not None)) * sum(dataset.counts.values())
        + sum(dataset.uncounted.values())
        for dataset in unpacked
    )
    return files, all(dataset.counts or dataset.uncounted for dataset in unpacked)

"""`cp2 export`: a run's weights for other libraries."""

from pathlib import Path
from typing import Annotated

import typer

from cp2.cli.app import USE, CampaignOptions, RunArgument, command


@command(USE)
def export(
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(help="to be made")],
    options: CampaignOptions,
    to: Annotated[
        str, typer.Option("--to", help="timm, torchvision, mmseg, detectron2, smp or huggingface")
    ],
    head: Annotated[bool, typer.Option("--head", help="with the segmentation head")] = False,
) -> None:
    """Write a run's weights as another library loads them, with a model card."""
    from cp2.models.export.run import export_run

    configuration, plan = options.load()
    found = plan.with_weights(run)
    print(export_run(found, plan, configuration.results, to, folder, head))

"""A project of one's own, images in, weights out: init, new, export."""

from pathlib import Path
from typing import Annotated

import typer

from cp2.cli.app import USE, CampaignOptions, RunArgument, command


@command(USE)
def init(folder: Annotated[Path, typer.Argument(help="empty, or to be made")]) -> None:
    """Put configurations and workflow into an empty folder, for an installation without a clone."""
    from cp2.record.project import init_project

    init_project(folder)
    print(f"{folder}: made; cd {folder} && cp2 plan")


@command(USE)
def new(
    name: Annotated[str, typer.Argument(help="of the campaign: configs/NAME.yaml is written")],
    images: Annotated[Path, typer.Option(help="folder of images, at any depth")],
    labelled: Annotated[
        Path | None, typer.Option(help="folder with images/, labels/, train.txt, val.txt")
    ] = None,
    method: Annotated[str, typer.Option(help="of configs/methods/")] = "cp2",
    backbone: Annotated[str, typer.Option(help="of configs/models/backbones/")] = "resnet50",
    start: Annotated[
        str | None, typer.Option(help="of configs/checkpoints.yaml: Quick Tuning of its weights")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="default: by the number of images")
    ] = None,
) -> None:
    """Write a campaign for a folder of images, with settings that suit their number and size."""
    from cp2.data.new_campaign import new_campaign

    print(*new_campaign(name, images, labelled, method, backbone, start, epochs), sep="\n")


@command(USE)
def export(
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(help="to be made")],
    options: CampaignOptions,
    to: Annotated[
        str, typer.Option("--to", help="timm, torchvision, mmseg, detectron2, smp or huggingface")
    ],
    head: Annotated[bool, typer.Option("--head", help="with the segmentation head")] = False,
    epoch: Annotated[int | None, typer.Option(help="of a snapshot; default: the end")] = None,
) -> None:
    """Write a run's weights as another library loads them, with a model card."""
    from cp2.models.export.run import export_run

    configuration, plan = options.load()
    found = plan.with_weights(run)
    print(export_run(found, plan, configuration.results, to, folder, head, epoch))

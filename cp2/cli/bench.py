"""The command that measures this device for `cp2 plan --cost`."""

from pathlib import Path
from typing import Annotated

import typer

from cp2.cli.app import MEASURE, CampaignOptions, command
from cp2.errors import UserError


@command(MEASURE)
def bench(
    options: CampaignOptions,
    stages: Annotated[
        list[str] | None, typer.Argument(help="pretrain, finetune, evaluate; none: all three")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="folder of images to read; none: synthetic ones")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="timed steps of a training")] = 20,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="add the rows to this throughput file")
    ] = None,
) -> None:
    """Measure a campaign's work on this device, for `cp2 plan --cost --throughput FILE`."""
    from cp2.costs.measure import STAGES, add_rows, check_target, measure
    from cp2.costs.work_folder import given_images
    from cp2.settings.messages import nearest

    for stage in stages or ():
        if stage not in STAGES:
            raise UserError(f"cp2 bench {stage}: not measured; {nearest(stage, STAGES)}")
    configuration, plan = options.load()
    if json_file is not None:
        check_target(json_file)
    paths = None if images is None else given_images(images)
    rows, missing = measure(configuration, plan, paths, stages or STAGES, steps)
    if json_file is not None and rows:
        add_rows(json_file, rows)
        print(f"written: {json_file}")
    if missing:
        raise UserError("not measured:\n  " + "\n  ".join(missing))

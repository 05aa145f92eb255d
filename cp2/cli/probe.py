"""`cp2 probe`: an early look at a pretraining, by its frozen features."""

from typing import Annotated

import typer

from cp2.cli.app import LOOK, CampaignOptions, command
from cp2.errors import UserError
from cp2.stages import PRETRAINED


@command(LOOK)
def probe(
    run: Annotated[str, typer.Argument(help="id of a pretrain run, or name of a checkpoint")],
    options: CampaignOptions,
    dataset: Annotated[str, typer.Option(help="labelled data set of the campaign")],
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="name in configs/protocols/; may be repeated; default: linear and knn"),
    ] = None,
    epoch: Annotated[
        list[int] | None,
        typer.Option(
            help="of a snapshot, 0: the start; may be repeated; default: all, and the last weights"
        ),
    ] = None,
) -> None:
    """Score frozen features of a checkpoint or of a pretraining's snapshots, minutes on a CPU."""
    from cp2.settings.protocols.probes import SCHEDULES

    configuration, plan = options.load()
    pretrained = plan.find(run, PRETRAINED)
    name = configuration.used(dataset)
    labelled = plan.run("dataset", name)
    probes = {}
    for one in protocol or ("linear", "knn"):
        settings = configuration.protocol(one)
        if settings.kind not in SCHEDULES:
            raise UserError(
                f"--protocol {one}: kind {settings.kind} trains or needs objects; a probe is of "
                f"kind {', '.join(SCHEDULES)}"
            )
        names = (key for key in settings.datasets if name in (key, configuration.used(key)))
        named = [settings.datasets[key] for key in names]
        probes[one] = settings.kind, named[0] if named else SCHEDULES[settings.kind]()
    from cp2.protocols.probe import probe_moments

    execution = configuration.campaign.execution
    lines = probe_moments(
        pretrained, labelled, probes, plan, configuration.results, execution, epoch or ()
    )
    for line in lines:
        print(line, flush=True)

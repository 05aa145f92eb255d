"""The command that looks before anything is spent."""

from typing import Annotated

import typer

from cp2.cli.app import DEFAULT, CampaignOption, SetOption, app, load
from cp2.plan.requests import job_request
from cp2.settings.campaign import Resources
from cp2.settings.sites import load_site
from cp2.stages import ON_CLUSTER


@app.command()
def doctor(
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
    site: Annotated[
        str | None, typer.Option("--site", help="name in configs/sites/, or a path to a YAML file")
    ] = None,
) -> None:
    """Check folders, disk, Slurm against the site file, torch against the driver; 1 on problems."""
    from cp2.cluster.doctor import examine

    configuration, plan = load(campaign, assignments)
    settings = load_site(site) if site else None
    wishes = configuration.campaign.resources
    requests = [
        job_request(stage, wishes.get(stage, Resources()), settings) for stage in ON_CLUSTER
    ]
    problem = False
    for check in examine(configuration, plan, requests, site):
        print(check)
        problem |= check.ok is False
    if problem:
        raise typer.Exit(1)

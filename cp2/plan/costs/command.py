"""What `cp2 plan --cost` and `--budget` ask: a campaign's costs, the command that spends."""

import json
import shlex
from pathlib import Path

from cp2.plan.costs.budget import select
from cp2.plan.costs.cost import Costs, cost_plan
from cp2.plan.costs.listing import budget_listing
from cp2.plan.costs.table import SHIPPED
from cp2.plan.graph import Plan
from cp2.plan.requests import JobRequest, job_request
from cp2.settings.campaign import Resources
from cp2.settings.load import Configuration
from cp2.settings.sites import load_site

_SHOWN = 4  # targets that are written out in the command; more go through a file


def cost_campaign(
    configuration: Configuration,
    plan: Plan,
    table: Path | None = None,
    device: str | None = None,
    site: str | None = None,
) -> Costs:
    """Costs of a campaign's runs; without `table`, by the shipped throughput table.

    Raises:
        UserError: the table, the device or the site cannot be used.
    """
    there = load_site(site, configuration.configs) if site else None
    given = configuration.campaign.resources

    def request(stage: str) -> JobRequest:
        return job_request(stage, given.get(stage, Resources()), there)

    path = table or configuration.configs / SHIPPED
    return cost_plan(plan, configuration.results, path, request, device)


def spend(
    costs: Costs, configuration: Configuration, budget: float, site: str | None, targets: bool
) -> str:
    """What a budget buys: as a list with the command that makes it, or Snakemake's targets alone.

    Raises:
        UserError: the budget is wrong or buys nothing.
    """
    selection = select(costs, budget)
    files = [
        costs.plan.runs[key].outputs(configuration.results)["done"].as_posix()
        for key in selection.runs
    ]
    if targets:
        return "\n".join(files)
    command = snakemake_command(files, configuration, budget, site)
    return budget_listing(costs, selection, budget, command)


def snakemake_command(
    files: list[str], configuration: Configuration, budget: float, site: str | None
) -> list[str]:
    """Lines to type; many targets go through a file, so that a restart makes the same ones."""
    profile = "slurm" if site else "local"
    config = [f"campaign={configuration.source}"]
    if configuration.assignments:
        config.append(f"set={json.dumps(list(configuration.assignments))}")
    if site:
        config.append(f"site={site}")
    tail = f"--workflow-profile workflow/profiles/{profile} --config {shlex.join(config)}"
    if len(files) <= _SHOWN:
        return [f"  snakemake {shlex.join(files)} {tail}"]
    words = ["cp2", "plan", "--campaign", configuration.source]
    for text in configuration.assignments:
        words += ["--set", text]
    if site:
        words += ["--site", site]
    words += ["--budget", f"{budget:g}", "--targets"]
    return [f"  {shlex.join(words)} > targets.txt", f"  snakemake $(cat targets.txt) {tail}"]

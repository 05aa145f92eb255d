"""Commands that look at what is there: plan, show, table, report, doctor, clean."""

import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cp2.cli.app import LOOK, CampaignOptions, RunArgument, command
from cp2.errors import UserError
from cp2.stages import ON_CLUSTER, STAGES

if TYPE_CHECKING:
    from cp2.cluster.doctor import Check
    from cp2.plan.graph import Plan
    from cp2.settings.load import Configuration


@command(LOOK)
def plan(
    options: CampaignOptions,
    runs: Annotated[bool, typer.Option("--runs", help="list every run and what it needs")] = False,
    stage: Annotated[str | None, typer.Option(help="list the runs of this stage")] = None,
    cost: Annotated[bool, typer.Option("--cost", help="what the campaign costs instead")] = False,
    budget: Annotated[
        float | None, typer.Option(help="device-hours: list the cells that fit")
    ] = None,
    targets: Annotated[
        bool, typer.Option("--targets", help="with --budget: only Snakemake's targets")
    ] = False,
    gpus: Annotated[int, typer.Option(min=1, help="for the wall-clock of --cost")] = 1,
    throughput: Annotated[
        Path | None, typer.Option(help="file of `cp2 bench --json`; default: the shipped one")
    ] = None,
    device: Annotated[str | None, typer.Option(help="device named in the throughput table")] = None,
    site: Annotated[
        str | None, typer.Option(help="name in configs/sites/ or a path: its GPUs, time limits")
    ] = None,
) -> None:
    """Print rows and runs of each table and how many are done, all runs, or what they cost."""
    from cp2.plan.listing import listing, summary
    from cp2.settings.messages import nearest

    if stage is not None and stage not in STAGES:
        raise UserError(f"--stage {stage!r}: unknown; {nearest(stage, STAGES)}")
    if targets and budget is None:
        raise UserError("--targets lists what fits a budget; add --budget HOURS")
    configuration, whole = options.load()
    if not (cost or throughput or device or site or budget is not None):
        listed = runs or stage is not None
        print(listing(configuration, whole, stage) if listed else summary(configuration, whole))
        if wrong := _misfits(configuration, whole, {}) + _unfit(configuration, whole):
            raise UserError("\n".join(wrong))
        return
    if stage is not None or runs:
        raise UserError("--stage and --runs list runs; costs are always of the whole campaign")
    from cp2.costs.budget import spend
    from cp2.costs.cost import cost_campaign
    from cp2.costs.listing import cost_listing

    if wrong := _unfit(configuration, whole):  # such networks cannot be counted
        raise UserError("\n".join(wrong))
    costs = cost_campaign(configuration, whole, throughput, device, site)
    if budget is None or cost:
        execution = configuration.campaign.execution
        print(cost_listing(costs, configuration.results, gpus, execution))
    if budget is not None:
        print("\n" * cost + spend(costs, configuration, budget, site, targets))


@command(LOOK)
def show(run: RunArgument, options: CampaignOptions) -> None:
    """Print one run: settings and their difference from the paper's, state, tables, command."""
    from cp2.reporting.show import show as text

    configuration, whole = options.load()
    print(text(configuration, whole, whole.find(run)))


@command(LOOK)
def schema(
    section: Annotated[str | None, typer.Argument(help="campaign, methods, ...; none: all")] = None,
) -> None:
    """Print every key of the settings with what it takes and its default, as docs/settings.md."""
    from cp2.settings.messages import nearest
    from cp2.settings.reference import PARTS, reference

    if section is not None and section not in PARTS:
        raise UserError(f"cp2 schema {section}: no such section; {nearest(section, PARTS)}")
    print(reference([section] if section else list(PARTS)), end="")


@command(LOOK)
def table(
    name: Annotated[str, typer.Argument(help="table, as the campaign names it")],
    options: CampaignOptions,
) -> None:
    """Write one table as Markdown, CSV and LaTeX from the scores that are there."""
    from cp2.reporting.report import write_table

    configuration, whole = options.load()
    print(write_table(configuration, whole, name))


@command(LOOK)
def report(options: CampaignOptions) -> None:
    """Write every table, figure and the HTML page from the runs that are there."""
    from cp2.reporting.report import write_report

    configuration, whole = options.load()
    print(write_report(configuration, whole))


@command(LOOK)
def doctor(
    options: CampaignOptions,
    site: Annotated[
        str | None, typer.Option("--site", help="name in configs/sites/, or a path to a YAML file")
    ] = None,
    gpu: Annotated[
        bool,
        typer.Option("--gpu", help="instead: a few steps of all kinds of work, GPU beside CPU"),
    ] = False,
) -> None:
    """Check folders, disk, Slurm against the site file, torch against the driver; 1 on problems."""
    if gpu and site:
        raise UserError("--gpu looks at the GPU of this machine; leave --site out")
    problem = False
    for check in _gpu_checks() if gpu else _checks(options, site):
        print(check, flush=True)
        problem |= check.ok is False
    if problem:
        raise typer.Exit(1)


def _gpu_checks() -> "Iterator[Check]":
    from cp2.cli.gpu import gpu_checks

    return gpu_checks()


def _checks(options: CampaignOptions, site: str | None) -> "Iterator[Check]":
    """Of a campaign on this machine and, if asked, on a cluster."""
    from cp2.cluster.doctor import Check, examine, inodes
    from cp2.plan.requests import job_request
    from cp2.plan.sources import files_to_unpack
    from cp2.settings.campaign import Resources
    from cp2.settings.sites import load_site

    configuration, plan = options.load()
    settings = load_site(site) if site else None
    wishes = configuration.campaign.resources
    requests = [
        job_request(stage, wishes.get(stage, Resources()), settings) for stage in ON_CLUSTER
    ]
    processes = {request.stage: request.processes for request in requests}
    for text in _misfits(configuration, plan, processes):
        yield Check(False, text)
    unfit = _unfit(configuration, plan)
    for text in unfit:
        yield Check(False, text)
    results = configuration.results
    counted = not unfit and _has_torch()  # networks that fail cannot be counted
    needed = None
    if counted:
        from cp2.costs.disk import disk_space

        needed = disk_space(plan, results).total
    yield from examine(configuration, requests, site, needed)
    yield inodes(results, *files_to_unpack(plan, results))
    if counted:
        from cp2.costs.memory import memory_notes

        there = {request.stage: request for request in requests}
        for note in memory_notes(plan, there, configuration.campaign.execution, None):
            yield Check(None, note)


def _misfits(configuration: "Configuration", plan: "Plan", processes: dict[str, int]) -> list[str]:
    from cp2.plan.fit import misfits

    execution = configuration.campaign.execution
    return misfits(plan.runs.values(), plan, configuration.results, execution, processes)


def _unfit(configuration: "Configuration", plan: "Plan") -> list[str]:
    """Why backbones of timm's would fail; nothing where torch cannot be imported.

    Other plans load no torch for it.
    """
    backbones = [getattr(run.recipe, "backbone", None) for run in plan.runs.values()]
    if not any(backbone and backbone.family == "timm" for backbone in backbones):
        return []
    if not _has_torch():
        return []
    from cp2.costs.trials import unfit_backbones

    return unfit_backbones(plan, configuration.results)


def _has_torch() -> bool:
    """Whether networks can be built; else the doctor's check of torch says why."""
    try:
        import_module("cp2.costs.networks")
    except (ImportError, OSError):
        return False
    return True


@command(LOOK)
def clean(
    options: CampaignOptions,
    remove: Annotated[bool, typer.Option("--remove", help="remove them, too")] = False,
) -> None:
    """List the runs in the results that no campaign in configs/ wants, and remove them if asked."""
    from cp2.plan.text import size
    from cp2.plan.unused import disk_use, unused

    found = unused(options.configuration())
    total = 0
    for folder in found:
        if held := folder.holder():
            print(f"{folder.path}: kept, {held.owner} works on it")
            continue
        used = disk_use(folder.path)
        total += used
        if remove:
            shutil.rmtree(folder.path)
        print(f"{folder.path}: {size(used)}{', removed' if remove else ''}")
    more = "" if remove or not found else "; --remove removes them"
    print(f"{len(found)} runs that no campaign wants, {size(total)}{more}")

"""`cp2 plot curves`: what runs logged while they trained."""

from pathlib import Path
from typing import Annotated

import typer

from cp2.cli.app import DEFAULT, CampaignOption, SetOption, load
from cp2.cli.plot import plot

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        help="tag=value, with the tags that MLflow shows: stage, seed, table, row, method, "
        "variant, dataset, ...; several values with commas, each with * and ?; may be repeated: "
        "all must hold",
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="name in metrics.jsonl, with * and ?; may be repeated; default: losses, instance "
        "accuracy, learning rate, throughput",
    ),
]


@plot.command()
def curves(
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
    where: WhereOption = None,
    metric: MetricOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder; default: figures/ of the reports")
    ] = None,
    name: Annotated[str, typer.Option(help="of the files, without ending")] = "curves",
) -> None:
    """Curves of the runs chosen by their tags, over steps."""
    from cp2.plan.places import Places
    from cp2.reporting.figures.curves import choose_runs
    from cp2.reporting.figures.curves import curves as draw

    configuration, whole = load(campaign, assignments)
    places = Places(whole)
    runs = choose_runs(places, where or ())
    folder = out or configuration.reports / "figures"
    print(draw(runs, places, configuration.results, metric or (), folder, name).png)

"""Commands that draw what a run's backbone sees; nothing is trained for them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cp2.cli.app import DEFAULT, CampaignOption, SetOption, app, load
from cp2.errors import UserError
from cp2.settings.messages import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from cp2.plan.graph import Plan, Run
    from cp2.reporting.figures.encoded import Moment
    from cp2.settings.load import Configuration

plot = typer.Typer(help="Draw what a run's backbone sees.", no_args_is_help=True)
app.add_typer(plot, name="plot")

RunOption = Annotated[
    list[str],
    typer.Option("--run", help="id of a pretrain, checkpoint or finetune run; may be repeated"),
]
ImageOption = Annotated[
    list[int] | None,
    typer.Option("--image", help="number of an image of the data set; may be repeated"),
]
DatasetOption = Annotated[
    str | None, typer.Option("--dataset", help="of the campaign; default: the first run's")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="folder; default: figures/ of the campaign's reports")
]
SeedOption = Annotated[int, typer.Option(min=0, help="another seed draws other views")]
DEFAULT_IMAGES = (0, 1, 2)


@plot.command()
def correspondence(
    run: RunOption,
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
    image: ImageOption = None,
    dataset: DatasetOption = None,
    out: OutOption = None,
    seed: SeedOption = 0,
) -> None:
    """Matches between two views: of one run over its training, or of several runs."""
    from cp2.reporting.figures.correspondence import correspondence as draw

    configuration, runs, images = _asked(run, campaign, assignments, image, dataset)
    figure = draw(
        images,
        _columns(runs, configuration),
        out or configuration.reports / "figures",
        f"correspondence_{_name(runs)}",
        seed,
    )
    print(figure.png)


@plot.command()
def attention(
    run: RunOption,
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
    image: ImageOption = None,
    dataset: DatasetOption = None,
    pixel: Annotated[
        str, typer.Option(help="row and column as shares of the image, e.g. 0.5,0.25")
    ] = "0.5,0.5",
    out: OutOption = None,
) -> None:
    """Similarity of all positions with a chosen pixel: over a training, or of several runs."""
    from cp2.reporting.figures.similarity import similarity

    place = _pixel(pixel)
    configuration, runs, images = _asked(run, campaign, assignments, image, dataset)
    figure = similarity(
        images,
        place,
        _columns(runs, configuration),
        out or configuration.reports / "figures",
        f"attention_{_name(runs)}",
    )
    print(figure.png)


@plot.command()
def overlap(
    run: RunOption,
    campaign: CampaignOption = DEFAULT,
    assignments: SetOption = None,
    image: ImageOption = None,
    dataset: DatasetOption = None,
    out: OutOption = None,
    seed: SeedOption = 0,
) -> None:
    """Matches of low similarity where two views overlap, of each run."""
    from cp2.reporting.figures.correspondence import overlaps
    from cp2.reporting.figures.encoded import latest

    configuration, runs, images = _asked(run, campaign, assignments, image, dataset)
    for one in runs:
        moment = latest(one, configuration.results)
        folder = out or configuration.reports / "figures"
        print(overlaps(images, moment, folder, f"overlap_{one.id}", seed).png)


def _asked(
    names: list[str],
    campaign: str,
    assignments: list[str] | None,
    images: list[int] | None,
    dataset: str | None,
) -> "tuple[Configuration, list[Run], list[Tensor]]":
    """The runs, and the images, uint8 (3, H, W).

    Raises:
        UserError: a run, the data set or an image is not there.
    """
    from cp2.data.datasets import read_index
    from cp2.data.images import decode_rgb
    from cp2.stages import folder_of

    configuration, plan = load(campaign, assignments)
    runs = [_run(plan, name) for name in names]
    folder = dataset or runs[0].need("dataset")
    if folder is None:
        raise UserError(f"{runs[0].key} is of no data set; add --dataset with one of the campaign")
    index = read_index(folder_of(f"dataset/{folder}", configuration.results).path)
    paths = index.paths(index.pretraining_split)
    numbers = images or [n for n in DEFAULT_IMAGES if n < len(paths)]
    for number in numbers:
        if not 0 <= number < len(paths):
            raise UserError(f"--image {number}: {folder} has images 0 to {len(paths) - 1}")
    return configuration, runs, [decode_rgb(paths[number]) for number in numbers]


def _run(plan: "Plan", name: str) -> "Run":
    """A run with weights by id, or by <stage>/<id>."""
    from cp2.stages import names

    stages = names(lambda stage: stage.weights)
    known = {run.key: run for run in plan.runs.values() if run.stage in stages}
    by_id = {run.id: run for run in known.values()}
    found = known.get(name) or by_id.get(name)
    if found is None:
        raise UserError(
            f"--run {name!r}: no {', '.join(stages[:-1])} or {stages[-1]} run of this campaign; "
            f"{nearest(name, by_id)}"
        )
    return found


def _columns(runs: "list[Run]", configuration: "Configuration") -> "list[Moment]":
    """All moments of one run, or the newest of several, under the runs' ids."""
    from cp2.reporting.figures import encoded

    if len(runs) == 1:
        return encoded.moments(runs[0], configuration.results)
    newest = [encoded.latest(run, configuration.results) for run in runs]
    return [
        encoded.Moment(run.id, moment.backbone) for run, moment in zip(runs, newest, strict=True)
    ]


def _name(runs: "list[Run]") -> str:
    return runs[0].id if len(runs) == 1 else f"{runs[0].id}_and_{len(runs) - 1}"


def _pixel(text: str) -> tuple[float, float]:
    try:
        row, column = (float(part) for part in text.split(","))
        if 0 <= row <= 1 and 0 <= column <= 1:
            return row, column
    except ValueError:
        pass
    raise UserError(
        f"--pixel {text!r}: must be two shares from 0 to 1, row and column, as in 0.5,0.25"
    )

"""`cp2 plot`: what a run's backbone sees, what runs logged; nothing is trained for it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cp2.cli.app import LOOK, CampaignOptions, app, command
from cp2.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from cp2.plan.graph import Plan, Run
    from cp2.reporting.figures.encoded import Moment
    from cp2.settings.load import Configuration

plot = typer.Typer(help="Draw what a run's backbone sees.", no_args_is_help=True)
app.add_typer(plot, name="plot", rich_help_panel=LOOK)

RunOption = Annotated[
    list[str],
    typer.Option("--run", help="id of a pretrain, checkpoint or finetune run; may be repeated"),
]
SeedOption = Annotated[int, typer.Option(min=0, help="another seed draws other views")]
DEFAULT_IMAGES = (0, 1, 2)


@dataclass(frozen=True)
class FigureOptions(CampaignOptions):
    """Options of every figure."""

    out: Annotated[
        Path | None,
        typer.Option("--out", help="folder; default: figures/ of the campaign's reports"),
    ] = None

    def folder(self, configuration: "Configuration") -> Path:
        """Where the figure is to be."""
        return self.out or configuration.reports / "figures"


@dataclass(frozen=True)
class ImageOptions(FigureOptions):
    """Options of a figure of images as runs encode them."""

    image: Annotated[
        list[int] | None,
        typer.Option("--image", help="number of an image of the data set; may be repeated"),
    ] = None
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="of the campaign; default: the first run's")
    ] = None


@command(group=plot)
def correspondence(run: RunOption, options: ImageOptions, seed: SeedOption = 0) -> None:
    """Matches between two views: of one run over its training, or of several runs."""
    from cp2.reporting.figures.correspondence import correspondence as draw

    configuration, plan, runs, images = _asked(run, options)
    folder, name = options.folder(configuration), f"correspondence_{_name(runs)}"
    print(draw(images, _columns(runs, plan, configuration.results), folder, name, seed).png)


@command(group=plot)
def attention(
    run: RunOption,
    options: ImageOptions,
    pixel: Annotated[
        str, typer.Option(help="row and column as shares of the image, e.g. 0.5,0.25")
    ] = "0.5,0.5",
) -> None:
    """Similarity of all positions with a chosen pixel: over a training, or of several runs."""
    from cp2.reporting.figures.similarity import similarity

    point = _pixel(pixel)
    configuration, plan, runs, images = _asked(run, options)
    folder, name = options.folder(configuration), f"attention_{_name(runs)}"
    columns = _columns(runs, plan, configuration.results)
    print(similarity(images, point, columns, folder, name).png)


@command(group=plot)
def overlap(run: RunOption, options: ImageOptions, seed: SeedOption = 0) -> None:
    """Matches of low similarity where two views overlap, of each run."""
    from cp2.reporting.figures.correspondence import overlaps
    from cp2.reporting.figures.encoded import latest

    configuration, _, runs, images = _asked(run, options)
    folder = options.folder(configuration)
    for one in runs:
        moment = latest(one, configuration.results)
        print(overlaps(images, moment, folder, f"overlap_{one.id}", seed).png)


@command(group=plot)
def curves(
    options: FigureOptions,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            help="tag=value, with the tags that MLflow shows: stage, seed, table, row, method, "
            "variant, dataset, ...; several values with commas, each with * and ?; may be "
            "repeated: all must hold",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="name in metrics.jsonl, with * and ?; may be repeated; default: losses, instance "
            "accuracy, learning rate, throughput",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="of the files, without ending")] = "curves",
) -> None:
    """Curves of the runs chosen by their tags, over steps."""
    from cp2.plan.places import Places
    from cp2.reporting.figures.curves import choose_runs
    from cp2.reporting.figures.curves import curves as draw

    configuration, whole = options.load()
    places = Places(whole)
    runs = choose_runs(places, where or ())
    folder = options.folder(configuration)
    print(draw(runs, places, configuration.results, metric or (), folder, name).png)


def _asked(
    names: list[str], options: ImageOptions
) -> "tuple[Configuration, Plan, list[Run], list[Tensor]]":
    """What was loaded, the runs, and the images, uint8 (3, H, W).

    Raises:
        UserError: a run, the data set or an image is not there.
    """
    from cp2.data.images import decode_rgb
    from cp2.data.index import read_index
    from cp2.stages import folder_of

    configuration, plan = options.load()
    runs = [plan.with_weights(name) for name in names]
    folder = options.dataset or runs[0].need("dataset")
    if folder is None:
        raise UserError(f"{runs[0].key} is of no data set; add --dataset with one of the campaign")
    index = read_index(folder_of(f"dataset/{folder}", configuration.results).path)
    paths = index.paths(index.pretraining_split)
    numbers = options.image or [n for n in DEFAULT_IMAGES if n < len(paths)]
    for number in numbers:
        if not 0 <= number < len(paths):
            raise UserError(f"--image {number}: {folder} has images 0 to {len(paths) - 1}")
    return configuration, plan, runs, [decode_rgb(paths[number]) for number in numbers]


def _columns(runs: "list[Run]", plan: "Plan", results: Path) -> "list[Moment]":
    """All moments of one run, or the newest of several: their ids, and steps of those under way."""
    from cp2.plan.steps import steps_of
    from cp2.reporting.figures import encoded

    if len(runs) == 1:
        return encoded.moments(runs[0], results)
    columns = []
    for run in runs:
        moment, title = encoded.latest(run, results), run.id
        if not run.is_done(results):
            steps = steps_of(run, plan, results)
            title += f"\n{moment.title} of {steps.count if steps else None}"
        columns.append(encoded.Moment(title, moment.backbone))
    return columns


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

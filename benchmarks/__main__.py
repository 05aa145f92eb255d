"""`python -m benchmarks NAME`: one command a benchmark."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.data import bench_data, bench_memory
from benchmarks.detection import bench_detection
from benchmarks.evaluate import bench_evaluate
from benchmarks.evidence import write_evidence
from benchmarks.figures import Figures, check_results, write_figures
from benchmarks.finetune import bench_finetune
from benchmarks.lightly_training import bench_lightly
from benchmarks.numerics import bench_numerics
from benchmarks.pretrain import bench_pretrain
from benchmarks.sizes import Sizes, sizes_of
from benchmarks.step import bench_step
from cp2.cli.app import command
from cp2.costs.work_folder import given_images
from cp2.errors import UserError
from cp2.models.devices import choose_device

app = typer.Typer(
    help="Measure speed beside the published recipe.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


JsonFile = Annotated[
    Path | None,
    typer.Option("--json", help="write the figures into this file, or into a folder by device"),
]


@dataclass(frozen=True)
class Files:
    """What is measured on, and where the figures go."""

    images: Annotated[
        Path | None, typer.Argument(help="folder of images; none: synthetic ones")
    ] = None
    json_file: JsonFile = None

    def paths(self) -> list[Path] | None:
        """The images; before anything is measured, whether the figures can be written."""
        if self.json_file is not None:
            check_results(self.json_file)
        return None if self.images is None else given_images(self.images)

    def write(self, name: str, figures: Figures) -> None:
        """Write the figures, where they are to be written."""
        if self.json_file is not None:
            print(f"written: {write_figures(self.json_file, name, figures)}")


@dataclass(frozen=True)
class Network:
    """What is trained or evaluated."""

    backbone: Annotated[str | None, typer.Option(help="name in configs/models/backbones/")] = None
    head: Annotated[str | None, typer.Option(help="name in configs/models/heads/")] = None
    crop: Annotated[int | None, typer.Option(help="pixels of a side")] = None


@dataclass(frozen=True)
class Rounds:
    """How long is measured."""

    steps: Annotated[
        int | None, typer.Option(help="timed steps of a round; of evaluate, images")
    ] = None
    rounds: Annotated[int | None, typer.Option(help="rounds; medians are printed")] = None


Batch = Annotated[int | None, typer.Option(help="samples of a step")]
Workers = Annotated[int | None, typer.Option(help="data loading processes of each loader")]
Amp = Annotated[str | None, typer.Option(help="precision of ours: off, bf16, fp16")]
Queue = Annotated[int | None, typer.Option(help="keys that each queue of a method holds")]
Compile = Annotated[bool, typer.Option("--compile", help="ours compiles its encoders")]


@command(group=app)
def data(
    files: Files,
    seconds: Annotated[float, typer.Option(help="time to measure for, about")] = 60.0,
    rounds: Annotated[int, typer.Option(help="alternating rounds; medians are printed")] = 3,
    memory: Annotated[
        int | None,
        typer.Option(help="only watch a worker's memory over so many samples; exit 1 if it grows"),
    ] = None,
) -> None:
    """Input pipeline on one core: the published recipe, ours, decoding and cropping alone."""
    paths = files.paths()
    if memory is None:
        files.write("data", bench_data(paths, seconds=seconds, rounds=rounds))
        return
    figures = bench_memory(paths, memory)
    files.write("memory", figures)
    if not figures["flat"]:
        raise typer.Exit(1)


@command(group=app)
def evidence(
    campaign: Annotated[str, typer.Option(help="name in configs/")] = "evidence",
    out: Annotated[Path, typer.Option(help="folder")] = Path("benchmarks/evidence"),
) -> None:
    """CSV, table and figure of the probes that a campaign's results hold so far."""
    print(write_evidence(campaign, out))


@command(group=app)
def step(
    files: Files,
    network: Network,
    timing: Rounds,
    method: Annotated[
        list[str] | None,
        typer.Option(help="name in configs/methods/; may be repeated; none: all"),
    ] = None,
    profile: Annotated[bool, typer.Option(help="print the operators that take longest")] = False,
    batch: Batch = None,
    queue: Queue = None,
    amp: Amp = None,
    compile: Compile = False,
) -> None:
    """Pretraining step on the device: methods as they are planned, beside MoCo v2."""
    sizes = _sizes("step", network, timing, batch=batch, queue=queue, amp=amp, compile=compile)
    files.write("step", bench_step(sizes, files.paths(), method, profile))


@command(group=app)
def pretrain(
    files: Files,
    network: Network,
    timing: Rounds,
    background: Annotated[
        list[str] | None, typer.Option(help="value of the method's background; may be repeated")
    ] = None,
    batch: Batch = None,
    workers: Workers = None,
    queue: Queue = None,
    amp: Amp = None,
    compile: Compile = False,
) -> None:
    """CP² from files to weights: the published recipe, ours, and our step alone."""
    given = {"batch": batch, "workers": workers, "queue": queue, "amp": amp, "compile": compile}
    sizes = _sizes("pretrain", network, timing, **given)
    files.write("pretrain", bench_pretrain(sizes, files.paths(), background))


@command(group=app)
def lightly(
    files: Files,
    timing: Rounds,
    backbone: Annotated[str | None, typer.Option(help="resnet18 or resnet50")] = None,
    crop: Annotated[int | None, typer.Option(help="pixels of a side")] = None,
    batch: Batch = None,
    workers: Workers = None,
    queue: Queue = None,
    amp: Amp = None,
) -> None:
    """MoCo v2 and DenseCL from files to weights beside lightly's, which must be installed."""
    given = {"batch": batch, "workers": workers, "queue": queue, "amp": amp}
    sizes = _sizes("lightly", timing, backbone=backbone, crop=crop, **given)
    files.write("lightly", bench_lightly(sizes, files.paths()))


@command(group=app)
def detection(
    timing: Rounds,
    backbone: Annotated[str | None, typer.Option(help="resnet18 or resnet50")] = None,
    crop: Annotated[int | None, typer.Option(help="pixels of an image's short side")] = None,
    batch: Batch = None,
    scores: Annotated[
        bool, typer.Option(help="also time VOC's and COCO's scores, half a minute")
    ] = True,
    json_file: JsonFile = None,
) -> None:
    """Faster R-CNN beside torchvision's on made-up images; what VOC's and COCO's scores take."""
    files = Files(None, json_file)
    files.paths()
    sizes = _sizes("detection", timing, backbone=backbone, crop=crop, batch=batch)
    files.write("detection", bench_detection(sizes, scores))


@command(group=app)
def numerics(
    files: Files,
    network: Network,
    method: Annotated[str, typer.Option(help="name in configs/methods/")] = "cp2",
    batch: Batch = None,
    workers: Workers = None,
    steps: Annotated[int | None, typer.Option(help="of each pretraining")] = None,
    amp: Amp = None,
    compile: Compile = False,
) -> None:
    """Losses in mixed precision beside float32's, from the same start; exit 1 outside a band."""
    given = {"batch": batch, "workers": workers, "steps": steps, "amp": amp, "compile": compile}
    figures = bench_numerics(_sizes("numerics", network, **given), files.paths(), method)
    files.write("numerics" if files.images else "numerics-synthetic", figures)
    if not figures["within"]:
        raise typer.Exit(1)


@command(group=app)
def finetune(
    files: Files,
    network: Network,
    timing: Rounds,
    batch: Batch = None,
    workers: Workers = None,
    amp: Amp = None,
) -> None:
    """Finetuning: a plain float32 loop, ours, and our step alone. Labels are made up."""
    sizes = _sizes("finetune", network, timing, batch=batch, workers=workers, amp=amp)
    files.write("finetune", bench_finetune(sizes, files.paths()))


@command(group=app)
def evaluate(files: Files, network: Network, timing: Rounds, workers: Workers = None) -> None:
    """Evaluation: a plain loop, ours, and the model alone. Labels are made up."""
    sizes = _sizes("evaluate", network, timing, workers=workers)
    files.write("evaluate", bench_evaluate(sizes, files.paths()))


def _sizes(name: str, *options: Network | Rounds, **more: Any) -> Sizes:
    device = choose_device()
    if device.type == "cpu":
        print("no GPU: a small network on small crops stands for the published sizes")
    given = {key: value for one in options for key, value in vars(one).items()}
    return sizes_of(name, device, **given, **more)


def main() -> None:
    """Messages for the user instead of tracebacks."""
    try:
        app(prog_name="python -m benchmarks")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

"""`python -m benchmarks NAME`: one command a benchmark."""

import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.data import bench_data, bench_memory
from benchmarks.evaluate import bench_evaluate
from benchmarks.figures import Figures, check_results, write_figures
from benchmarks.finetune import bench_finetune
from benchmarks.numerics import bench_numerics
from benchmarks.pretrain import bench_pretrain
from benchmarks.sizes import Sizes, sizes_of
from benchmarks.step import bench_step
from cp2.costs.work_folder import given_images
from cp2.errors import UserError
from cp2.models.devices import choose_device

app = typer.Typer(
    help="Measure speed beside the published recipe.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Images = Annotated[Path | None, typer.Argument(help="folder of images; none: synthetic ones")]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="write the figures into this file, or into a folder by device"),
]
Backbone = Annotated[str | None, typer.Option(help="name in configs/models/backbones/")]
Head = Annotated[str | None, typer.Option(help="name in configs/models/heads/")]
Crop = Annotated[int | None, typer.Option(help="pixels of a side")]
Batch = Annotated[int | None, typer.Option(help="samples of a step")]
Workers = Annotated[int | None, typer.Option(help="data loading processes of each loader")]
Steps = Annotated[int | None, typer.Option(help="timed steps of a round; of evaluate, images")]
Rounds = Annotated[int | None, typer.Option(help="rounds; medians are printed")]
Amp = Annotated[str | None, typer.Option(help="precision of ours: off, bf16, fp16")]
Queue = Annotated[int | None, typer.Option(help="keys that each queue of a method holds")]
Compile = Annotated[bool, typer.Option("--compile", help="ours compiles its encoders")]


@app.command()
def data(
    images: Images = None,
    seconds: Annotated[float, typer.Option(help="time to measure for, about")] = 60.0,
    rounds: Annotated[int, typer.Option(help="alternating rounds; medians are printed")] = 3,
    memory: Annotated[
        int | None,
        typer.Option(help="only watch a worker's memory over so many samples; exit 1 if it grows"),
    ] = None,
    json_file: Json = None,
) -> None:
    """Input pipeline on one core: the published recipe, ours, decoding and cropping alone."""
    paths = _inputs(images, json_file)
    if memory is None:
        _write(json_file, "data", bench_data(paths, seconds=seconds, rounds=rounds))
        return
    figures = bench_memory(paths, memory)
    _write(json_file, "memory", figures)
    if not figures["flat"]:
        raise typer.Exit(1)


@app.command()
def step(
    images: Images = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="name in configs/methods/; may be repeated; none: all"),
    ] = None,
    profile: Annotated[bool, typer.Option(help="print the operators that take longest")] = False,
    backbone: Backbone = None,
    head: Head = None,
    crop: Crop = None,
    batch: Batch = None,
    steps: Steps = None,
    rounds: Rounds = None,
    queue: Queue = None,
    amp: Amp = None,
    compile: Compile = False,
    json_file: Json = None,
) -> None:
    """Pretraining step on the device: methods as they are planned, beside MoCo v2."""
    sizes = _sizes("step", locals())
    paths = _inputs(images, json_file)
    _write(json_file, "step", bench_step(sizes, paths, method, profile))


@app.command()
def pretrain(
    images: Images = None,
    background: Annotated[
        list[str] | None, typer.Option(help="value of the method's background; may be repeated")
    ] = None,
    backbone: Backbone = None,
    head: Head = None,
    crop: Crop = None,
    batch: Batch = None,
    workers: Workers = None,
    steps: Steps = None,
    rounds: Rounds = None,
    queue: Queue = None,
    amp: Amp = None,
    compile: Compile = False,
    json_file: Json = None,
) -> None:
    """CP² from files to weights: the published recipe, ours, and our step alone."""
    sizes = _sizes("pretrain", locals())
    _write(json_file, "pretrain", bench_pretrain(sizes, _inputs(images, json_file), background))


@app.command()
def numerics(
    images: Images = None,
    method: Annotated[str, typer.Option(help="name in configs/methods/")] = "cp2",
    backbone: Backbone = None,
    head: Head = None,
    crop: Crop = None,
    batch: Batch = None,
    workers: Workers = None,
    steps: Annotated[int | None, typer.Option(help="of each pretraining")] = None,
    amp: Amp = None,
    compile: Compile = False,
    json_file: Json = None,
) -> None:
    """Losses in mixed precision beside float32's, from the same start; exit 1 outside a band."""
    sizes = _sizes("numerics", locals())
    figures = bench_numerics(sizes, _inputs(images, json_file), method)
    _write(json_file, "numerics" if images else "numerics-synthetic", figures)
    if not figures["within"]:
        raise typer.Exit(1)


@app.command()
def finetune(
    images: Images = None,
    backbone: Backbone = None,
    head: Head = None,
    crop: Crop = None,
    batch: Batch = None,
    workers: Workers = None,
    steps: Steps = None,
    rounds: Rounds = None,
    amp: Amp = None,
    json_file: Json = None,
) -> None:
    """Finetuning: a plain float32 loop, ours, and our step alone. Labels are made up."""
    sizes = _sizes("finetune", locals())
    _write(json_file, "finetune", bench_finetune(sizes, _inputs(images, json_file)))


@app.command()
def evaluate(
    images: Images = None,
    backbone: Backbone = None,
    head: Head = None,
    crop: Crop = None,
    workers: Workers = None,
    steps: Steps = None,
    rounds: Rounds = None,
    json_file: Json = None,
) -> None:
    """Evaluation: a plain loop, ours, and the model alone. Labels are made up."""
    sizes = _sizes("evaluate", locals())
    _write(json_file, "evaluate", bench_evaluate(sizes, _inputs(images, json_file)))


def _sizes(name: str, given: Mapping[str, Any]) -> Sizes:
    device = choose_device()
    if device.type == "cpu":
        print("no GPU: a small network on small crops stands for the published sizes")
    options = {field.name for field in fields(Sizes)}
    return sizes_of(name, device, **{k: v for k, v in given.items() if k in options})


def _inputs(folder: Path | None, json_file: Path | None) -> list[Path] | None:
    """The images; before anything is measured, whether the figures can be written."""
    if json_file is not None:
        check_results(json_file)
    return None if folder is None else given_images(folder)


def _write(target: Path | None, name: str, figures: Figures) -> None:
    if target is not None:
        print(f"written: {write_figures(target, name, figures)}")


def main() -> None:
    """Messages for the user instead of tracebacks."""
    try:
        app(prog_name="python -m benchmarks")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

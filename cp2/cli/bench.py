"""Commands that measure speed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cp2.cli.app import bench

if TYPE_CHECKING:
    from cp2.bench.sizes import Sizes

Images = Annotated[Path | None, typer.Argument(help="folder of photographs; none: synthetic ones")]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="write the figures into this file, or into a folder by device"),
]
Backbone = Annotated[str | None, typer.Option(help="name in configs/models/backbones/")]
Head = Annotated[str | None, typer.Option(help="name in configs/models/heads/")]
Crop = Annotated[int | None, typer.Option(help="pixels of a side")]
Batch = Annotated[int | None, typer.Option(help="samples of a step")]
Workers = Annotated[int | None, typer.Option(help="data loading processes of each loader")]
Steps = Annotated[int | None, typer.Option(help="timed steps of a turn; of evaluate, images")]
Rounds = Annotated[int | None, typer.Option(help="turns of each way; medians are printed")]
Amp = Annotated[str | None, typer.Option(help="precision of ours: off, bf16, fp16")]
Queue = Annotated[int | None, typer.Option(help="keys that each queue of a method holds")]
Compile = Annotated[bool, typer.Option("--compile", help="ours compiles its encoders")]


@bench.command("data")
def bench_data_command(
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
    from cp2.bench.data import bench_data
    from cp2.bench.worker_memory import bench_memory

    paths = _inputs(images, json_file)
    if memory is None:
        _write(json_file, "data", bench_data(paths, seconds=seconds, rounds=rounds))
        return
    figures = bench_memory(paths, memory)
    _write(json_file, "memory", figures)
    if not figures["flat"]:
        raise typer.Exit(1)


@bench.command("step")
def bench_step_command(
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
    compile_encoders: Compile = False,
    json_file: Json = None,
) -> None:
    """Pretraining step on the device: methods as they are planned, beside MoCo v2."""
    from cp2.bench.step import bench_step

    sizes = _sizes(
        "step",
        backbone=backbone,
        head=head,
        crop=crop,
        batch=batch,
        steps=steps,
        rounds=rounds,
        queue=queue,
        amp=amp,
        compile=compile_encoders,
    )
    paths = _inputs(images, json_file)
    _write(json_file, "step", bench_step(sizes, paths, method, profile))


@bench.command("pretrain")
def bench_pretrain_command(
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
    compile_encoders: Compile = False,
    json_file: Json = None,
) -> None:
    """CP² from files to weights: the published recipe, ours, and our step alone."""
    from cp2.bench.pretrain import bench_pretrain

    sizes = _sizes(
        "pretrain",
        backbone=backbone,
        head=head,
        crop=crop,
        batch=batch,
        workers=workers,
        steps=steps,
        rounds=rounds,
        queue=queue,
        amp=amp,
        compile=compile_encoders,
    )
    _write(json_file, "pretrain", bench_pretrain(sizes, _inputs(images, json_file), background))


@bench.command("numerics")
def bench_numerics_command(
    images: Images = None,
    method: Annotated[str, typer.Option(help="name in configs/methods/")] = "cp2",
    backbone: Backbone = None,
    head: Head = None,
    crop: Crop = None,
    batch: Batch = None,
    workers: Workers = None,
    steps: Annotated[int | None, typer.Option(help="of each pretraining")] = None,
    amp: Amp = None,
    compile_encoders: Compile = False,
    json_file: Json = None,
) -> None:
    """Losses in mixed precision beside float32's, from the same start; exit 1 outside a band."""
    from cp2.bench.numerics import bench_numerics

    sizes = _sizes(
        "numerics",
        backbone=backbone,
        head=head,
        crop=crop,
        batch=batch,
        workers=workers,
        steps=steps,
        amp=amp,
        compile=compile_encoders,
    )
    figures = bench_numerics(sizes, _inputs(images, json_file), method)
    _write(json_file, "numerics" if images else "numerics-synthetic", figures)
    if not figures["within"]:
        raise typer.Exit(1)


@bench.command("finetune")
def bench_finetune_command(
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
    from cp2.bench.finetune import bench_finetune

    sizes = _sizes(
        "finetune",
        backbone=backbone,
        head=head,
        crop=crop,
        batch=batch,
        workers=workers,
        steps=steps,
        rounds=rounds,
        amp=amp,
    )
    _write(json_file, "finetune", bench_finetune(sizes, _inputs(images, json_file)))


@bench.command("evaluate")
def bench_evaluate_command(
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
    from cp2.bench.evaluate import bench_evaluate

    sizes = _sizes(
        "evaluate",
        backbone=backbone,
        head=head,
        crop=crop,
        workers=workers,
        steps=steps,
        rounds=rounds,
    )
    _write(json_file, "evaluate", bench_evaluate(sizes, _inputs(images, json_file)))


def _sizes(stage: str, **given: Any) -> "Sizes":
    from cp2.bench.sizes import sizes
    from cp2.models.devices import choose_device

    device = choose_device()
    if device.type == "cpu":
        print("no GPU: a small network on small crops stands for the published sizes")
    return sizes(stage, device, **given)


def _inputs(folder: Path | None, json_file: Path | None) -> list[Path] | None:
    """The photographs; before anything is measured, whether the figures can be written."""
    from cp2.bench.inputs import check_results, photographs

    if json_file is not None:
        check_results(json_file)
    return None if folder is None else photographs(folder)


def _write(target: Path | None, name: str, figures: dict[str, Any]) -> None:
    if target is not None:
        from cp2.bench.record import write_figures

        print(f"written: {write_figures(target, name, figures)}")

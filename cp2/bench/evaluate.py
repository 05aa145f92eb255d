"""Evaluation from files to scores: a plain loop, our stage, and the model alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from cp2.bench.arithmetic import inference_flops, matmul_peaks
from cp2.bench.figures import Figures, Say, assemble
from cp2.bench.harness import Stopwatch, Way, alternate
from cp2.bench.methods import configuration
from cp2.bench.project import run_step
from cp2.bench.published.evaluate import PublishedVal, published_evaluate
from cp2.bench.record import throughput_row
from cp2.bench.scratch import CLASSES, DATASET, Scratch, scratch, silent
from cp2.bench.sizes import Sizes
from cp2.bench.table import print_table
from cp2.evaluation.evaluate import evaluate
from cp2.models.devices import choose_device, place
from cp2.models.segmentor_files import build_segmentor, load_segmentor, save_segmentor
from cp2.plan.graph import Run
from cp2.plan.recipes import EvaluateRecipe
from cp2.record.files import read_json
from cp2.settings.campaign import Execution
from cp2.settings.protocols import InferenceSettings

TRAINED = "bench"
PLAIN, OURS, LIMIT = "plain", "ours", "model alone"
MODEL_STEPS = 10


def bench_evaluate(sizes: Sizes, paths: Sequence[Path] | None = None, say: Say = print) -> Figures:
    """Measure, print, and return the figures of evaluation.

    A turn is the whole stage over `sizes.steps` images, loading of the model included, for the
    plain way as for ours; so it counts as one step. Images are fitted into crop x 4 crop pixels.
    The limit is the model's forward pass on one image that lies on the device.

    Args:
        paths: photographs; None: synthetic ones. Labels are drawn to their sizes.

    Raises:
        UserError: unknown names.
    """
    device, config = choose_device(), configuration()
    resize = (sizes.crop, 4 * sizes.crop)
    backbone, head = config.backbone(sizes.backbone), config.head(sizes.head)
    build = partial(build_segmentor, backbone, head, CLASSES)
    peaks = matmul_peaks(device, "off")
    with scratch(paths) as room:
        file = room.folder / "trained" / TRAINED / "model.safetensors"
        save_segmentor(file, build(), backbone, head, TRAINED)
        image = PublishedVal(room.pairs(1), resize)[0][0][None].to(device)
        flops = inference_flops(build, image.shape[2], image.shape[3])
        ways = [
            _plain(room, file, sizes, resize, device),
            _ours(room, file, sizes, resize),
            _model_alone(file, image),
        ]
        ways = [replace(way, flops=flops) for way in ways]
        turns = alternate(ways, sizes.rounds, device, say)
    figures = assemble(sizes, room, ways, turns, device, peaks)
    rate = figures["ways"][OURS]["samples_per_second"]["median"]
    figures["throughput"] = [
        throughput_row(
            "evaluate",
            sizes,
            rate,
            figures["machine"],
            crop_size=resize,
            output_stride=backbone.stride,
            flops=flops,
        )
    ]
    print_table(figures, say)
    return figures


def _plain(
    room: Scratch, file: Path, sizes: Sizes, resize: tuple[int, int], device: torch.device
) -> Way:
    def run(watch: Stopwatch) -> None:
        with watch.whole():
            model = load_segmentor(file).to(device).eval()
            dataset = PublishedVal(room.pairs(sizes.steps), resize)
            published_evaluate(model, dataset, CLASSES, sizes.workers, device)

    return Way(PLAIN, run, sizes.steps, "published", precision="off")


def _ours(room: Scratch, file: Path, sizes: Sizes, resize: tuple[int, int]) -> Way:
    recipe = EvaluateRecipe(
        dataset=DATASET, split="val", resize=resize, inference=InferenceSettings(), pictures=0
    )
    needs = (f"dataset/{DATASET}", f"finetune/{TRAINED}")
    job = Run("evaluate", "bench-evaluate", "", recipe, 0, needs, {})

    def run(watch: Stopwatch) -> None:
        room.prepare(sizes.steps, "val", labelled=True)
        results = room.results()
        (results / "finetune").symlink_to(file.parents[1])
        execution = Execution(workers=sizes.workers, results=str(results))
        with silent(), watch.whole():
            evaluate(job, results, execution)
        done = read_json(job.folder(results).done)
        watch.set_waited(done["data_wait"] * done["seconds"])

    return Way(OURS, run, sizes.steps, "ours", precision="off")


def _model_alone(file: Path, image: torch.Tensor) -> Way:
    def run(watch: Stopwatch) -> None:
        model = load_segmentor(file).eval()
        place(model)
        with torch.inference_mode():
            run_step(watch, lambda: model(image))

    return Way(LIMIT, run, 1, "limit", steps=MODEL_STEPS, precision="off")

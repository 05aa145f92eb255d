"""Evaluation from files to scores: a plain loop, our stage, and the model alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.figures import Figures, Say, assemble, print_table
from benchmarks.harness import Stopwatch, Variant, alternate
from benchmarks.loops import CLASSES, DATASET, configuration, run_step
from benchmarks.machine import matmul_peaks
from benchmarks.published_segmentation import PublishedVal, published_evaluate
from benchmarks.sizes import Sizes
from cp2.costs.networks import segmentor_gflop
from cp2.costs.work_folder import WorkFolder, silent, work_folder
from cp2.models.devices import choose_device, to_device
from cp2.models.segmentor_files import build_segmentor, load_segmentor, save_segmentor
from cp2.plan.graph import Run
from cp2.plan.protocols.segmentation import SegmentationEvaluateRecipe
from cp2.protocols.registry import evaluate
from cp2.record.files import read_json
from cp2.settings.campaign import Execution
from cp2.settings.protocols.segmentation import InferenceSettings

TRAINED = "bench"
PLAIN, OURS, LIMIT = "plain", "ours", "model alone"
MODEL_STEPS = 10


def bench_evaluate(sizes: Sizes, paths: Sequence[Path] | None = None, say: Say = print) -> Figures:
    """Measure, print, and return the figures of evaluation.

    A round is the whole stage over `sizes.steps` images, loading of the model included, for the
    plain variant as for ours; so it counts as one step. Images are fitted into crop x 4 crop
    pixels. The limit is the model's forward pass on one image that lies on the device.

    Args:
        paths: images; None: synthetic ones. Labels are drawn to their sizes.

    Raises:
        UserError: unknown names.
    """
    device, config = choose_device(), configuration()
    resize = (sizes.crop, 4 * sizes.crop)
    backbone, head = config.backbone(sizes.backbone), config.head(sizes.head)
    build = partial(build_segmentor, backbone, head, CLASSES)
    peaks = matmul_peaks(device, "off")
    with work_folder(paths) as work:
        file = work.folder / "trained" / TRAINED / "model.safetensors"
        save_segmentor(file, build(), backbone, head, TRAINED)
        image = PublishedVal(work.pairs(1, CLASSES), resize)[0][0][None].to(device)
        size = (image.shape[2], image.shape[3])
        flops = 1e9 * segmentor_gflop(backbone, head, CLASSES, size)
        variants = [
            _plain(work, file, sizes, resize, device),
            _ours(work, file, sizes, resize),
            _model_alone(file, image),
        ]
        variants = [replace(variant, flops=flops) for variant in variants]
        timings = alternate(variants, sizes.rounds, device, say)
    figures = assemble(sizes, work, variants, timings, device, peaks)
    print_table(figures, say)
    return figures


def _plain(
    work: WorkFolder, file: Path, sizes: Sizes, resize: tuple[int, int], device: torch.device
) -> Variant:
    def run(watch: Stopwatch) -> None:
        with watch.whole():
            model = load_segmentor(file).to(device).eval()
            dataset = PublishedVal(work.pairs(sizes.steps, CLASSES), resize)
            published_evaluate(model, dataset, CLASSES, sizes.workers, device)

    return Variant(PLAIN, run, sizes.steps, "published", precision="off")


def _ours(work: WorkFolder, file: Path, sizes: Sizes, resize: tuple[int, int]) -> Variant:
    recipe = SegmentationEvaluateRecipe(
        dataset=DATASET, split="val", resize=resize, inference=InferenceSettings(), pictures=0
    )
    needs = (f"dataset/{DATASET}", f"finetune/{TRAINED}")
    job = Run("evaluate", "bench-evaluate", "", recipe, 0, needs, {})

    def run(watch: Stopwatch) -> None:
        results = work.results(DATASET, sizes.steps, "val", CLASSES)
        (results / "finetune").symlink_to(file.parents[1])
        execution = Execution(workers=sizes.workers, results=str(results))
        with silent(), watch.whole():
            evaluate(job, results, execution)
        done = read_json(job.folder(results).done)
        watch.set_waited(done["data_wait"] * done["seconds"])

    return Variant(OURS, run, sizes.steps, "ours", precision="off")


def _model_alone(file: Path, image: torch.Tensor) -> Variant:
    def run(watch: Stopwatch) -> None:
        model = load_segmentor(file).eval()
        to_device(model)
        with torch.inference_mode():
            run_step(watch, lambda: model(image))

    return Variant(LIMIT, run, 1, "limit", steps=MODEL_STEPS, precision="off")

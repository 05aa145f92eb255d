"""Samples a second of a campaign's kinds of work on this device, by the stages' own loops."""

import gc
import math
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from cp2.costs.table import kind_of, read_table
from cp2.costs.work import Kind, Work, work_of
from cp2.costs.work_folder import WorkFolder, silent, work_folder
from cp2.errors import UserError
from cp2.models.devices import choose_device, device_name
from cp2.models.segmentor_files import build_segmentor, save_segmentor
from cp2.plan.graph import Plan, Run
from cp2.plan.protocols.segmentation import SegmentationEvaluateRecipe, SegmentationFinetuneRecipe
from cp2.plan.recipes import PretrainRecipe
from cp2.protocols.registry import evaluate
from cp2.protocols.segmentation.finetuning import finetune
from cp2.record.environment import code_state
from cp2.record.files import read_json, write_json
from cp2.record.metrics import read_metrics
from cp2.settings.campaign import Execution
from cp2.settings.load import Configuration
from cp2.settings.throughput import ThroughputRow
from cp2.stages import ON_DEVICE
from cp2.training.clock import Deadline
from cp2.training.pretrain import pretrain

STAGES = tuple(stage for stage in ON_DEVICE if stage != "masks")
PREFETCH = 2  # batches that each worker of a data loader keeps ready (PyTorch's default)
IMAGES = 5  # images of a timed evaluation, for each timed step of a training
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(
    configuration: Configuration,
    plan: Plan,
    paths: Sequence[Path] | None,
    stages: Sequence[str],
    steps: int,
    say: Callable[[str], None] = print,
) -> tuple[list[ThroughputRow], list[str]]:
    """Run one recipe of each kind of work for some steps, from files to weights or scores.

    Weights are random, caches are left out, labels are made up. The images of a finetuning are
    decoded before its timed steps, as in all epochs but the first.

    Args:
        paths: images; None: synthetic ones.
        steps: timed ones of a training, after a warm-up that uses up the loaders' queues.

    Returns:
        Rows of a throughput table, and why there is none of some kinds.
    """
    kinds: dict[Kind, tuple[Run, Work]] = {}
    for run in plan.runs.values():
        work = work_of(run, plan, configuration.results)
        if work and run.stage in stages and (work.kind not in kinds or _plain(run)):
            kinds[work.kind] = run, work
    rows, missing = [], []
    with work_folder(paths) as images:
        say(f"{device_label(choose_device())}, {images.description}")
        for kind, (run, work) in kinds.items():
            gc.collect()  # what the last kind held
            torch.cuda.empty_cache()
            try:
                rate = _rate(run, plan, configuration.campaign.execution, images, steps)
            except torch.OutOfMemoryError:
                missing.append(f"{kind}: does not fit into the GPU's memory; set a smaller batch")
            except UserError as error:
                missing.append(f"{kind}: {error}")
            else:
                say(f"{rate:>10.1f} samples/s  {kind}")
                rows.append(_row(work, rate))
    return rows, missing


def _plain(run: Run) -> bool:
    """Whether a run needs no attention maps, which cannot be made up."""
    return run.need("masks") is None


def _rate(run: Run, plan: Plan, given: Execution, images: WorkFolder, steps: int) -> float:
    window = max(2, min(10, steps))
    no_files = {
        "save_minutes": 1e6,
        "snapshot_epochs": (),
        "snapshot_every": None,
        "validate_every": None,
    }
    execution = given.model_copy(update={"log_every": window, **no_files})
    warmup = window * math.ceil(max(3, PREFETCH * given.workers + 1) / window)
    total = warmup + window * math.ceil(steps / window)
    recipe = run.recipe
    if isinstance(recipe, SegmentationEvaluateRecipe):
        return _evaluation_rate(run, recipe, plan, execution, images, IMAGES * steps)
    short: PretrainRecipe | SegmentationFinetuneRecipe
    if isinstance(recipe, PretrainRecipe):
        if not _plain(run):
            raise UserError("its masks are cut from attention maps; measure another mask")
        count = total * recipe.method.batch_size
        results = images.results(recipe.dataset, count, "unlabelled")
        short = recipe.model_copy(update={"start": None, "epochs": 1})
        loop = pretrain
    else:
        if not isinstance(recipe, SegmentationFinetuneRecipe):
            raise UserError("is put at its FLOP; only segmentation is measured")
        schedule = recipe.optimization.model_copy(update={"iterations": total})
        results = images.results(recipe.dataset, schedule.batch_size, "train", recipe.classes)
        changes = {"optimization": schedule, "pretrained_head": False, "label_fraction": 1.0}
        short = recipe.model_copy(update=changes)
        loop = finetune
    needs = tuple(key for key in run.needs if key.startswith("dataset/"))  # no cache, no weights
    with silent():
        loop(replace(run, recipe=short, needs=needs), results, execution, Deadline())
    lines = read_metrics(run.folder(results).metrics)
    return statistics.harmonic_mean(
        [line["samples_per_second"] for line in lines if line["step"] > warmup]
    )


def _evaluation_rate(
    run: Run,
    recipe: SegmentationEvaluateRecipe,
    plan: Plan,
    execution: Execution,
    images: WorkFolder,
    count: int,
) -> float:
    """Of the second evaluation: the first starts the device."""
    model = plan.needed(run, "finetune")
    trained = model.recipe
    assert isinstance(trained, SegmentationFinetuneRecipe)
    for number in (2, count):
        results = images.results(recipe.dataset, number, recipe.split, trained.classes)
        save_segmentor(
            model.outputs(results)["model"],
            build_segmentor(trained.backbone, trained.head, trained.classes),
            trained.backbone,
            trained.head,
            model.id,
        )
        with silent():
            evaluate(
                replace(run, recipe=recipe.model_copy(update={"pictures": 0})), results, execution
            )
    rate: float = read_json(run.outputs(results)["done"])["samples_per_second"]
    return rate


def _row(work: Work, rate: float) -> ThroughputRow:
    kind = asdict(work.kind)
    return ThroughputRow.model_validate(
        {
            **kind,
            "batch_size": work.batch_size,
            "gflop": work.gflop,
            "device": device_label(choose_device()),
            "samples_per_second": rate,
            "source": f"cp2 bench, commit {(code_state()[0] or 'unknown')[:8]}",
        }
    )


def device_label(device: torch.device) -> str:
    """The GPU's name, or "cpu" with the processor's."""
    return device_name(device) if device.type == "cuda" else f"cpu ({processor()})"


def processor() -> str:
    """Name of the processor, and how many of its cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {CORES} cores"


def check_target(path: Path) -> None:
    """Whether rows can be added to this file.

    Raises:
        UserError: it holds something else, or cannot be there.
    """
    if path.is_dir():
        raise UserError(f"--json {path}: is a folder; name a file")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise UserError(f"--json {path}: {parent} is a file, not a folder; name another place")
    if path.exists():
        read_table(path)
        if not isinstance(read_json(path), dict):
            raise UserError(f"--json {path}: holds a list; name a new file")


def add_rows(path: Path, rows: Sequence[ThroughputRow]) -> None:
    """Add rows to a throughput table; they replace rows of the same work and device in it."""
    others = read_json(path) if path.exists() else {}
    known = read_table(path).throughput if path.exists() else ()
    table = {(kind_of(row), row.batch_size, row.device): row for row in [*known, *rows]}
    found = [row.model_dump(mode="json") for row in table.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**others, "throughput": found})

"""Memory of a GPU that training takes: all networks and what a step keeps for its gradient.

Counted on torch's meta device: a forward pass in training mode, and the storages that it saves for
the backward pass. Known to about a seventh: what kernels work in is left out but for a constant.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cp2.costs.method_step import empty_batch
from cp2.costs.networks import (
    LANDSCAPE,
    count_detector,
    count_finetuning,
    count_pretraining,
    once,
    run_detector,
    shaping,
)
from cp2.methods.registry import build_networks
from cp2.methods.step import Step
from cp2.models.segmentor_files import build_segmentor
from cp2.plan.graph import Plan, Run
from cp2.plan.protocols.detection import DetectionFinetuneRecipe
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe
from cp2.plan.recipes import PretrainRecipe
from cp2.plan.requests import JobRequest
from cp2.plan.text import size
from cp2.protocols.detection.files import build_detector
from cp2.protocols.detection.networks import C4Detector
from cp2.protocols.detection.roi_heads import POSITIVES
from cp2.protocols.segmentation.finetuning import loss_of, with_auxiliary
from cp2.settings.campaign import Execution

CONTEXT = 1.0e9  # bytes of CUDA, its libraries and their workspaces
BATCHES = 3  # in the device's memory, see cp2.augment.prefetch
HALF = ("bf16", "fp16")  # what networks keep is half as large
SAMPLES = 4  # that a pass is counted with: what is kept grows with them evenly


@dataclass(frozen=True)
class Need:
    """Bytes of one GPU; `images` of a micro-batch are on it at once."""

    bytes: float
    images: int
    what: str

    def __str__(self) -> str:
        return f"{size(self.bytes)} ({self.images} images of {self.what})"


def memory_notes(
    plan: Plan, requests: Mapping[str, JobRequest], execution: Execution, device: float | None
) -> list[str]:
    """The largest need of each training stage, and where it may be more than the GPU has.

    Args:
        requests: of stages; those without GPUs are left out.
        device: bytes of a GPU where the site does not say; None: not known.
    """
    notes = []
    for stage, request in requests.items():
        runs = list(plan.stage(stage)) if request.gpus else []
        needs = [need for run in runs if (need := memory_need(run, request, execution))]
        if not needs:
            continue
        largest = max(needs, key=lambda need: need.bytes)
        there = request.gpu_memory_gb * 1e9 if request.gpu_memory_gb else device
        beside = f" of {size(there)}" if there else ""
        gpus = f"{request.processes} GPU{'s' * (request.processes > 1)}"
        notes.append(f"{stage} on {gpus}: about {largest}{beside} of a GPU's memory")
        if there and largest.bytes > there:
            notes.append(
                f"{stage} may not fit: ask for more GPUs (gpus), for larger ones, or, where batch "
                f"norm allows it, for micro-batches (execution.accumulate.{stage})"
            )
    return notes


def memory_need(run: Run, request: JobRequest, execution: Execution) -> Need | None:
    """What a training takes of each GPU of its job; None for stages that train nothing."""
    gpus = request.processes
    parts = gpus * execution.accumulate.get(run.stage, 1)
    match run.recipe:
        case PretrainRecipe(method=method) as recipe:
            batch, counts = method.batch_size, count_pretraining(recipe)
            share = -(-batch // parts)
            kept = _pretraining(recipe) * share / SAMPLES
            views, side = 2, method.views.crop_size
            image, half = 3 * 4 * side * side * views, method.amp in HALF
            what = f"{method.name}, {recipe.backbone.name}"
        case SegmentationFinetuneRecipe() as recipe:
            batch, counts = recipe.optimization.batch_size, count_finetuning(recipe)
            share = -(-batch // parts)
            kept = _finetuning(recipe) * share / SAMPLES
            height, width = recipe.augmentation.crop
            image, half = (3 * 4 + 8) * height * width, recipe.amp in HALF
            what = f"{recipe.dataset}, {recipe.backbone.name}, {recipe.head.name}"
        case DetectionFinetuneRecipe(training=training) as recipe:
            batch, counts = training.batch_size, count_detector(recipe)
            share = -(-batch // gpus)
            kept = _detection(recipe) * share / SAMPLES
            short, long = _largest_image(recipe)
            image, half = 3 * 4 * short * long, recipe.amp in HALF
            what = f"{recipe.dataset}, {recipe.detector.kind}, {recipe.backbone.name}"
        case _:
            return None
    kept *= 0.5 if half else 1.0
    inputs = BATCHES * image * -(-batch // gpus)
    return Need(counts.state + counts.learnt + kept + inputs + CONTEXT, share, what)


def _pretraining(recipe: PretrainRecipe) -> int:
    """Bytes that a step of SAMPLES images keeps."""
    few = {"batch_size": SAMPLES, "bn_group_size": None}
    recipe = recipe.model_copy(update={"method": recipe.method.model_copy(update=few)})

    def count() -> int:
        method = build_networks(recipe, checked=False).train()
        batch, step = empty_batch(SAMPLES, recipe.method.views.crop_size), Step(0, 1, 0)
        prepared = method.before_step(batch, step)
        return saved_bytes(method, lambda: method(batch, prepared, step)["loss"])

    return once("kept by a pretraining", shaping(recipe), count)


def _finetuning(recipe: SegmentationFinetuneRecipe) -> int:
    """Bytes that a step of SAMPLES images keeps, its logits at the labels' size among them."""
    loss, crop = loss_of(recipe), recipe.augmentation.crop

    def count() -> int:
        model = build_segmentor(recipe.backbone, recipe.head, recipe.classes)
        trained = with_auxiliary(model, recipe).train()
        images, labels = torch.empty(SAMPLES, 3, *crop), torch.empty(SAMPLES, *crop).long()
        return saved_bytes(trained, lambda: loss(trained(images), labels)["loss"])

    parts = [recipe.backbone, recipe.head, recipe.auxiliary]
    shape = [*(part and part.model_dump() for part in parts), recipe.classes, crop]
    return once("kept by a finetuning", shape, count)


def _largest_image(recipe: DetectionFinetuneRecipe) -> tuple[int, int]:
    """Sides of a photograph at the largest size that training draws."""
    short = max(recipe.training.short_sides)
    return short, min(recipe.training.long_side, round(short * LANDSCAPE))


def _detection(recipe: DetectionFinetuneRecipe) -> int:
    """Bytes that a step of SAMPLES images keeps, with as many regions as are sampled.

    A c4's gradients of regions count, too, as nothing else is as large. Where it makes the regions'
    maps again, it keeps the input of each block, and what the largest block keeps while its
    gradient is made.
    """
    settings, sides = recipe.detector, _largest_image(recipe)

    def count() -> int:
        changed = settings.model_copy(update={"recompute": False})
        model = build_detector(changed, recipe.backbone, recipe.classes).train()
        regions = SAMPLES * settings.regions
        objects = round(regions * POSITIVES)
        kept = saved_bytes(model, partial(run_detector, model, SAMPLES, sides, regions, objects))
        if not isinstance(model, C4Detector):
            return kept
        images = torch.empty(regions, model.backbone.stage_channels[2], model.pooled, model.pooled)
        if not settings.recompute:
            return kept + images.nbytes
        kept += 3 * images.nbytes  # of regions and of the maps in that block
        blocks = []
        for block in model.backbone.layer4:
            within = saved_bytes(block, partial(block, images))
            blocks.append(within - images.nbytes)
            images = block(images).detach()
        return kept - sum(blocks) + max(blocks)

    shape = [settings.model_dump(), recipe.backbone.model_dump(), recipe.classes, sides]
    return once("kept by a detector", shape, count)


def saved_bytes(module: nn.Module, forward: Callable[[], Any]) -> int:
    """Of what `forward` saves for its gradient, each storage once, without the module's own."""
    own = {t.untyped_storage()._cdata for t in [*module.parameters(), *module.buffers()]}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            sizes[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()  # holds the graph, so that no storage's address is used twice
    del result
    return sum(sizes.values())

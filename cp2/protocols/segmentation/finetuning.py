"""The finetuning loop: a segmentation model trained with labels (CP² sec. 4.1)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cp2.augment.prefetch import prefetch
from cp2.data.decoded import DecodedPairs, available_memory
from cp2.data.index import DatasetIndex, label_fraction, read_index
from cp2.data.labels import IGNORE
from cp2.drawing import counters
from cp2.errors import UserError, WrongFile
from cp2.models.batch_norm import group_batch_norm, settle
from cp2.models.checkpoints import load_head
from cp2.models.devices import to_device
from cp2.models.distributed import rank, world_size
from cp2.models.encoders import Segmentor
from cp2.models.segmentor_files import build_segmentor, save_segmentor
from cp2.plan.graph import Run
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe
from cp2.protocols.segmentation.auxiliary import DeeplySupervised, set_dropout_rows
from cp2.protocols.segmentation.evaluation import validation
from cp2.protocols.segmentation.samples import (
    FinetuneDataset,
    LabelledPair,
    finetune_batches,
    prepare_labelled,
)
from cp2.settings.campaign import Execution
from cp2.settings.protocols.segmentation import FinetuneOptimization
from cp2.training.clock import Deadline
from cp2.training.optimizers import build_optimizer, poly_lr, set_lr, step_lr
from cp2.training.pretrained import PretrainedWeights
from cp2.training.trainer import Trainer
from cp2.training.window import Term

Loss = Callable[[Any, Tensor], dict[str, Term]]  # model's output and labels -> terms
TERMS = ("loss", "accuracy")


def finetune(run: Run, results: Path, execution: Execution, deadline: Deadline) -> None:
    """See `cp2.protocols.registry.finetune`."""
    recipe = run.recipe
    assert isinstance(recipe, SegmentationFinetuneRecipe)
    seed = run.seed or 0
    index = read_index(run.needed_folder("dataset", results).path)
    dataset = build_dataset(index, recipe, seed, execution)
    settings = recipe.optimization
    total = settings.iterations

    torch.manual_seed(seed)
    model, notes = build(recipe, run.pretrained, results)
    count = execution.accumulate.get("finetune", 1)
    trained = with_auxiliary(model, recipe)
    group_batch_norm(trained, settings.batch_size, settings.bn_group_size, count)
    to_device(trained)
    optimizer = build_optimizer(settings.optimizer, trained)
    trainer = Trainer(
        run, results, execution, deadline, trained, optimizer, recipe.amp, TERMS, total
    )
    trainer.announce(
        f"{len(dataset)} labelled images, {total} steps of {settings.batch_size}", notes
    )
    device = trainer.device
    loader = finetune_batches(
        dataset,
        trainer.step,
        total,
        settings.batch_size,
        execution.workers,
        pin=device.type == "cuda",
        rank=rank(),
        world_size=world_size(),
    )
    ready = partial(
        prepare_labelled, device=device, normalization=recipe.augmentation.normalization
    )
    stream = prefetch(loader, ready, device)
    loss = loss_of(recipe)
    trained.train()
    while trainer.step < total:
        lr = finetune_lr(settings, trainer.step)
        set_lr(optimizer, lr)
        with trainer.waiting():
            _, content = next(stream)
        train_step(trainer, trained, content(), count, seed, loss)
        shown = {"lr": lr}
        if trainer.logs_next and rank() == 0 and execution.validates(trainer.step + 1):
            shown |= validation(model, index, recipe)
            trained.train()
        trainer.advance(settings.batch_size, shown)
    trainer.say(kept_in_memory(dataset))
    trainer.finish(lambda path: save_segmentor(path, model, recipe.backbone, recipe.head, run.id))


def finetune_lr(settings: FinetuneOptimization, iteration: int) -> float:
    """The rate of one iteration, by whichever schedule the protocol has."""
    base, total = settings.optimizer.lr, settings.iterations
    if settings.step:
        return step_lr(base, settings.step, iteration, total)
    assert settings.poly  # one of the two is there
    return poly_lr(base, settings.poly, iteration, total)


def train_step(
    trainer: Trainer,
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    micro_batches: int,
    seed: int,
    loss: Loss,
) -> None:
    """Gradient and optimiser over this process' share of the batch: images and labels."""

    def terms(first: int, images: Tensor, labels: Tensor) -> dict[str, Term]:
        # Every micro-batch draws the dropout of the whole batch, and uses its rows of it.
        seed_dropout(seed, trainer.step)
        set_dropout_rows(model, (first, share * world_size()))
        return loss(trainer.parallel.call(images), labels)

    share = len(batch[0])
    size = share // micro_batches
    parts = zip(*(tensor.split(size) for tensor in batch), strict=True)
    starts = range(rank() * share, (rank() + 1) * share, size)
    trainer.learn([partial(terms, at, *part) for at, part in zip(starts, parts, strict=True)])
    settle(model, micro_batches)


def build_dataset(
    index: DatasetIndex, recipe: SegmentationFinetuneRecipe, seed: int, execution: Execution
) -> FinetuneDataset:
    """The training split, or the recipe's share of its labels, drawn with the run's seed."""
    pairs = [
        LabelledPair(*files)
        for files in zip(index.paths("train"), index.labels("train"), strict=True)
    ]
    chosen = label_fraction(pairs, recipe.label_fraction, seed)
    decoded = room_for_images(len(chosen), execution)
    return FinetuneDataset(chosen, recipe.augmentation, seed, decoded)


def room_for_images(count: int, execution: Execution) -> DecodedPairs:
    """Memory in which this process and its workers keep decoded images.

    At most half of what is free now, and none of the last quarter: the rest is for the workers, and
    for jobs beside this one.
    """
    if execution.keep_decoded_mb is not None:
        return DecodedPairs(count, execution.keep_decoded_mb * 10**6)
    free = available_memory()
    return DecodedPairs(count, free // 2 // world_size(), reserve=free // 4)


def kept_in_memory(dataset: FinetuneDataset) -> str:
    """How much of the data set was decoded only once, for the log."""
    decoded = dataset.decoded
    line = (
        f"decoded images in memory: {decoded.kept} of {len(dataset)}, {decoded.used / 1e6:.0f} MB"
    )
    if decoded.kept == len(dataset):
        return line
    why = "until memory ran short" if decoded.closed else f"of at most {decoded.limit / 1e6:.0f} MB"
    return f"{line} {why}; others were decoded at each use"


def build(
    recipe: SegmentationFinetuneRecipe, start: str | None, results: Path
) -> tuple[Segmentor, list[str]]:
    """The model with its starting weights, and notes on what was adapted.

    Args:
        start: key of the checkpoint or pretraining that gives the backbone and, where the recipe
            says so, the head; None: weights are random.

    Raises:
        WrongFile: the weights do not fit, or hold no head where one is asked for.
    """
    model = build_segmentor(recipe.backbone, recipe.head, recipe.classes, recipe.zero_init_residual)
    if start is None:
        if recipe.pretrained_head:
            raise UserError("pretrained_head asks for a pretraining, but the run starts from none")
        return model, []
    weights = PretrainedWeights(start, results)
    notes = weights.load_into(model.backbone)
    if recipe.pretrained_head:
        if weights.head is None:
            raise WrongFile(
                f"{weights.path} holds no head, but this finetuning starts from a pretrained one; "
                "use a CP² pretraining, or head_init: random in the table's row"
            )
        notes += load_head(model.head, weights.head, weights.path)
    return model, notes


def with_auxiliary(
    model: Segmentor, recipe: SegmentationFinetuneRecipe
) -> Segmentor | DeeplySupervised:
    """What is trained: the model itself, or the model with a second head."""
    return DeeplySupervised(model, recipe.auxiliary.head) if recipe.auxiliary else model


def loss_of(recipe: SegmentationFinetuneRecipe) -> Loss:
    """The recipe's loss on what the trained module hands out."""
    if recipe.auxiliary is None:
        return partial(segmentation_terms, align_corners=recipe.align_corners)
    return partial(
        supervised_terms, weight=recipe.auxiliary.weight, align_corners=recipe.align_corners
    )


def seed_dropout(seed: int, step: int) -> None:
    """Make the step's dropout a function of (seed, step), so that a resume needs no saved state."""
    rng = counters.generator(seed, counters.FINETUNE_DROPOUT, step)
    torch.manual_seed(int(rng.integers(2**63)))


def supervised_terms(
    outputs: tuple[Tensor, Tensor], labels: Tensor, weight: float, align_corners: bool
) -> dict[str, Term]:
    """The segmentor's terms, with `weight` times the auxiliary head's loss added to the loss."""
    terms, second = (segmentation_terms(logits, labels, align_corners) for logits in outputs)
    loss, more = terms["loss"], second["loss"]
    assert isinstance(loss, Tensor)
    assert isinstance(more, Tensor)
    return terms | {"loss": loss + weight * more}


def segmentation_terms(
    logits: Tensor, labels: Tensor, align_corners: bool = False
) -> dict[str, Term]:
    """Cross entropy at the labels' resolution, and the share of labelled pixels that are right.

    Logits (N, classes, h, w) are enlarged to the labels (N, H, W) bilinearly. Pixels of IGNORE,
    padding among them, cost nothing, but the mean is over all pixels (released code).
    """
    logits = F.interpolate(
        logits.float(), size=labels.shape[1:], mode="bilinear", align_corners=align_corners
    )
    loss = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum") / labels.numel()
    right = (logits.detach().argmax(1) == labels).sum()
    return {"loss": loss, "accuracy": (right, (labels != IGNORE).sum())}

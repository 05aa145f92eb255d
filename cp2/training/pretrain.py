"""The pretraining loop of all methods, from random weights or as Quick Tuning."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cp2.augment.device_decoding import EncodedDataset, check_decoder, decoded
from cp2.augment.pipeline import PreparedBatch, batches, check_batch_size, prepare
from cp2.augment.prefetch import prefetch
from cp2.augment.samples import PretrainDataset
from cp2.data.index import read_index
from cp2.methods.registry import build_networks
from cp2.methods.step import Method, Step
from cp2.models.backbones import Backbone
from cp2.models.batch_norm import average_statistics
from cp2.models.devices import to_device
from cp2.models.distributed import rank, world_size
from cp2.models.weights import save_weights
from cp2.plan.graph import Run
from cp2.plan.recipes import PretrainRecipe
from cp2.record.folder import RunFolder
from cp2.settings.campaign import Execution
from cp2.settings.models import trained_as
from cp2.training.cache import image_source
from cp2.training.clock import Deadline
from cp2.training.compiling import compile_encoders
from cp2.training.masks import stored_maps
from cp2.training.optimizers import build_optimizer, cosine_lr, set_lr
from cp2.training.parallel import split
from cp2.training.pictures import picture_views
from cp2.training.pretrained import PretrainedWeights
from cp2.training.samples import CentralPairs, UnreadableImages
from cp2.training.trainer import Trainer


def pretrain(run: Run, results: Path, execution: Execution, deadline: Deadline) -> None:
    """Run or resume one pretraining; writes model.safetensors, then done.json.

    Raises:
        UserError: bad input, or a loss that is not finite.
        StoppedForResumeError: stopped by clock or signal after saving.
    """
    recipe = run.recipe
    assert isinstance(recipe, PretrainRecipe)
    settings = recipe.method
    seed = run.seed or 0
    index = read_index(run.needed_folder("dataset", results).path)
    source = image_source(run, results, index)
    kind = EncodedDataset if settings.reading.decoder == "device" else PretrainDataset
    dataset = kind(source, settings, seed, stored_maps(run, results, index))
    check_batch_size(dataset, settings.batch_size, world_size())
    steps_an_epoch = len(dataset) // settings.batch_size
    total = steps_an_epoch * recipe.epochs

    torch.manual_seed(seed)
    micro_batches = execution.accumulate.get("pretrain", 1)
    method, notes = build(recipe, results, micro_batches)
    to_device(method)
    optimizer = build_optimizer(settings.optimizer[trained_as(recipe.backbone)], method)
    trainer = Trainer(
        run,
        results,
        execution,
        deadline,
        method,
        optimizer,
        settings.amp,
        method.terms,
        total,
    )
    device = trainer.device
    if isinstance(dataset, EncodedDataset):
        check_decoder(device)
    method.train()
    if settings.compile:
        example = zeros_like_a_micro_batch(method, device)
        notes.append(compile_encoders(method, example, trainer.precision))
    trainer.announce(
        f"{len(dataset)} images, {steps_an_epoch} steps an epoch, "
        f"{recipe.epochs} epoch{'s' * (recipe.epochs > 1)}",
        [*notes, *method.notes],
    )
    base_lr = settings.optimizer[trained_as(recipe.backbone)].lr
    unreadable = UnreadableImages(dataset.source, trainer.folder.unreadable, trainer.say)
    central = CentralPairs(settings.views, trainer.say)
    loader = batches(
        dataset,
        *divmod(trainer.step, steps_an_epoch),
        settings.batch_size,
        execution.workers,
        pin=device.type == "cuda",
        rank=rank(),
        world_size=world_size(),
        epochs=recipe.epochs,
    )
    ready = partial(prepare, settings=settings, device=device)
    stream = prefetch(decoded(loader, dataset, device), ready, device)
    while trainer.step < total:
        epoch, position = divmod(trainer.step, steps_an_epoch)
        if position == 0 and execution.keeps(epoch):  # the last epoch's are the model
            snapshot(method, recipe, trainer.folder, run.id, epoch)
        lr = cosine_lr(base_lr, settings.schedule, epoch, position / steps_an_epoch, recipe.epochs)
        set_lr(optimizer, lr)
        with trainer.waiting():
            batch, content = next(stream)
        unreadable.check(batch)
        central.check(batch.view_boxes)
        images = content()
        if trainer.step == 0 and rank() == 0:
            picture_views(batch, settings, trainer.folder.pictures / "composed.png")
        health = train_step(trainer, method, images, Step(trainer.step, total, seed))
        done = epoch + (position + 1) / steps_an_epoch
        trainer.advance(settings.batch_size, {"lr": lr, "epoch": done, **health})
    trainer.finish(
        lambda path: export(method, recipe, path, run.id),
        lambda: [*unreadable.notes(), *central.notes()],
    )


def snapshot(
    method: Method, recipe: PretrainRecipe, folder: RunFolder, run_id: str, epoch: int
) -> None:
    """Keep the weights after `epoch` epochs as <run>/snapshots/epoch-<n>.safetensors.

    All processes call it; the first one writes.
    """
    average_statistics(method)
    if rank() == 0:
        path = folder.snapshot(epoch)
        path.parent.mkdir(exist_ok=True)
        export(method, recipe, path, run_id)


def train_step(
    trainer: Trainer, method: Method, batch: PreparedBatch, step: Step
) -> dict[str, float]:
    """Before, gradient, optimiser, after; see `Method`. Of a step that is logged, its health."""
    method.watched = trainer.logs_next
    with trainer.precision.autocast():
        prepared = method.before_step(batch, step)
    parts = split(method.micro_batches, (batch, prepared))
    trainer.learn([partial(trainer.parallel.call, *part, step) for part in parts])
    found = method.health() if method.watched else {}
    method.after_step(batch, prepared, step)
    return {name: value.item() for name, value in found.items()}


def zeros_like_a_micro_batch(method: Method, device: torch.device) -> Tensor:
    """Images of the shape and layout that the encoders get."""
    settings = method.settings
    count = settings.batch_size // (world_size() * method.micro_batches)
    size = settings.views.crop_size
    images = torch.zeros(count, 3, size, size, device=device)
    return images.contiguous(memory_format=torch.channels_last)


def build(
    recipe: PretrainRecipe, results: Path, micro_batches: int = 1
) -> tuple[Method, list[str]]:
    """The method with its starting weights, and notes on what was adapted."""
    notes: list[str] = []

    def load(backbone: Backbone) -> None:
        if recipe.start:
            notes.extend(PretrainedWeights(recipe.start, results).load_into(backbone))

    return build_networks(recipe, micro_batches, load), notes


def export(method: Method, recipe: PretrainRecipe, path: Path, run_id: str) -> None:
    """The parts of the network that later stages start from, and the queues of keys."""
    parts = {name: child.state_dict() for name, child in method.exported.named_children()}
    metadata = {"run": run_id}
    if recipe.backbone.family == "vit":
        metadata["heads"] = str(recipe.backbone.heads)
    save_weights(path, parts | method.extras, metadata)

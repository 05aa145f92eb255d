"""The pretraining loop: MoCo v2 and CP², from random weights or as Quick Tuning."""

import time
from pathlib import Path

import torch

from cp2.augment.pipeline import PretrainDataset, ViewBatch, batches, prepare
from cp2.data.datasets import read_index
from cp2.errors import UserError
from cp2.methods.keys import bn_note
from cp2.methods.registry import Method, build_method
from cp2.models.backbones import build_backbone
from cp2.models.checkpoints import load_backbone
from cp2.models.devices import choose_device, device_name
from cp2.models.encoders import DenseEncoder, DenseProjection, GlobalEncoder
from cp2.models.heads import build_head
from cp2.models.weights import save_weights
from cp2.plan.graph import Run
from cp2.plan.recipes import PretrainRecipe
from cp2.record.metrics import MetricsWriter
from cp2.settings.base import hashed_fields
from cp2.settings.campaign import Execution
from cp2.settings.methods import Cp2Settings
from cp2.training.clock import Deadline, StoppedForResumeError
from cp2.training.optimizers import Precision, build_optimizer, cosine_lr, set_lr
from cp2.training.origin import Origin
from cp2.training.pictures import picture_views
from cp2.training.progress import Progress
from cp2.training.state import load_state, remove_state, save_state
from cp2.training.window import Window

TERMS = ("loss", "loss_instance", "accuracy_instance", "loss_dense", "accuracy_dense")


def pretrain(run: Run, results: Path, execution: Execution, deadline: Deadline) -> None:
    """Run or resume one pretraining; writes model.safetensors, then done.json.

    Raises:
        UserError: bad input, or a loss that is not finite.
        StoppedForResumeError: stopped by clock or signal after saving.
    """
    recipe = run.recipe
    assert isinstance(recipe, PretrainRecipe)
    folder = run.folder(results)
    device = choose_device()
    settings = recipe.method
    folder.start(
        hashed_fields(recipe) | {"seed": run.seed},
        {**run.tags, "stage": run.stage, "run_id": run.id, "seed": str(run.seed)},
        device_name(device),
    )
    seed = run.seed or 0
    index = read_index(results / "datasets" / recipe.dataset)
    split = "unlabelled" if "unlabelled" in index.record.splits else "train"
    dataset = PretrainDataset(index.paths(split), settings, seed)
    steps_an_epoch = len(dataset) // settings.batch_size
    total = steps_an_epoch * recipe.epochs
    batches(dataset, 0, 0, settings.batch_size, 0, pin=False)  # a bad batch size stops here

    torch.manual_seed(seed)
    method, notes = build(recipe, results)
    method.to(device)
    if device.type == "cuda":
        method.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(settings.optimizer[recipe.backbone.family], method)
    precision = Precision(settings.amp, device)
    names = [name for name in TERMS if isinstance(settings, Cp2Settings) or "dense" not in name]

    saved = load_state(folder.state, device)
    step, window = 0, Window(names)
    if saved:
        step = int(saved["step"])
        method.load_state_dict(saved["method"])
        optimizer.load_state_dict(saved["optimizer"])
        precision.scaler.load_state_dict(saved["scaler"])
        torch.set_rng_state(saved["rng"].cpu())
        window = Window(names, saved["window"])
    metrics = MetricsWriter(folder.metrics, resume_step=step)
    progress = Progress(run.id, total, step, folder.log)
    for note in (*notes, bn_note(settings, world_size=1)):
        if note:
            progress.say(note)
    progress.say(
        f"{len(dataset)} images, {steps_an_epoch} steps an epoch, {recipe.epochs} epochs, "
        f"on {device_name(device)}" + (f", resumed at step {step}" if step else "")
    )

    def save() -> None:
        window.check(step)
        state = {
            "step": step,
            "method": method.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": precision.scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "window": window.tensor(),
        }
        save_state(folder.state, state)

    last_save = time.monotonic()
    method.train()
    base_lr = settings.optimizer[recipe.backbone.family].lr
    values: dict[str, float] = {}
    while step < total:
        epoch, first = divmod(step, steps_an_epoch)
        loader = batches(
            dataset,
            epoch,
            first,
            settings.batch_size,
            execution.workers,
            pin=device.type == "cuda",
        )
        stream = iter(loader)
        for position in range(first, steps_an_epoch):
            lr = cosine_lr(
                base_lr, settings.schedule, epoch, position / steps_an_epoch, recipe.epochs
            )
            set_lr(optimizer, lr)
            with progress.waiting():
                batch: ViewBatch = next(stream)
            if step == 0:
                picture_views(batch, settings, folder.pictures / "composed.png")
            images = prepare(batch, settings, device)
            with precision.autocast():
                terms = method(*images)
            precision.step(terms["loss"], optimizer)
            window.add(terms)
            step += 1
            progress.step(settings.batch_size)
            if device.type == "cpu":  # nothing to wait for: stop before the weights are spoiled
                window.check(step)
            if step % execution.log_every == 0 or step == total:
                values = progress.report(step, {**window.means(step), "lr": lr})
                metrics.write(step, values | {"epoch": step / steps_an_epoch})
            reason = deadline.reason()
            if reason and step < total:
                save()
                progress.say(f"stopped at step {step}: {reason}; start again to go on")
                raise StoppedForResumeError(f"{run.key}: saved at step {step} because {reason}")
            if time.monotonic() - last_save > 60 * execution.save_minutes:
                save()
                last_save = time.monotonic()

    export(method, recipe, folder.model, run.id)
    summary = progress.finish()
    folder.finish({**summary, "steps": total, "last": values, "notes": notes})
    remove_state(folder.state)


def build(recipe: PretrainRecipe, results: Path) -> tuple[Method, list[str]]:
    """The method around its encoder, with the starting weights, and notes on what was adapted."""
    settings = recipe.method
    backbone = build_backbone(recipe.backbone, zero_init_residual=settings.zero_init_residual)
    notes: list[str] = []
    if recipe.start:
        origin = Origin(recipe.start, results)
        notes += load_backbone(backbone, origin.backbone, origin.path, origin.metadata)
    if not isinstance(settings, Cp2Settings):
        return build_method(settings, GlobalEncoder(backbone, settings.dim)), notes
    if recipe.head is None:
        raise UserError(f"method {settings.name!r} pretrains a head, but the recipe has none")
    head = build_head(recipe.head, backbone.channels)
    projection = DenseProjection(head.channels, settings.dim, settings.projection_hidden_layers)
    return build_method(settings, DenseEncoder(backbone, head, projection)), notes


def export(method: Method, recipe: PretrainRecipe, path: Path, run_id: str) -> None:
    """The query encoder's parts and the queue, as later stages read them."""
    encoder = method.encoders.query
    parts = {name: child.state_dict() for name, child in encoder.named_children()}
    parts["keys"] = {"queue": method.keys.queue}
    metadata = {"run": run_id}
    if recipe.backbone.family == "vit":
        metadata["heads"] = str(recipe.backbone.heads)
    save_weights(path, parts, metadata)

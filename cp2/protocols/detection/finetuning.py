"""The finetuning loop of a detector (DenseCL sec. 3.1; detectron2's schedule)."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from cp2.augment.distortion import normalize
from cp2.data.index import read_index
from cp2.errors import UserError
from cp2.models.batch_norm import group_batch_norm
from cp2.models.devices import to_device
from cp2.models.distributed import rank, world_size
from cp2.models.norm_statistics import precise_statistics
from cp2.plan.graph import Run
from cp2.plan.protocols.detection import DetectionFinetuneRecipe
from cp2.protocols.detection.files import build_detector, save_detector
from cp2.protocols.detection.networks import Generators, Objects
from cp2.protocols.detection.samples import DetectionImages, Sample, detection_batches
from cp2.settings.campaign import Execution
from cp2.settings.optimization import SgdSettings
from cp2.training.clock import Deadline
from cp2.training.optimizers import build_optimizer, set_lr, step_lr
from cp2.training.pretrained import PretrainedWeights
from cp2.training.trainer import Trainer
from cp2.training.window import Term

TERMS = ("loss", "loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")
Inputs = tuple[list[Tensor], list[Objects], list[Generators]]


def finetune(run: Run, results: Path, execution: Execution, deadline: Deadline) -> None:
    """See `cp2.protocols.registry.finetune`."""
    recipe = run.recipe
    assert isinstance(recipe, DetectionFinetuneRecipe)
    settings, seed = recipe.training, run.seed or 0
    if execution.accumulate.get("finetune", 1) > 1:
        raise UserError(
            "a detector's batch norms see the whole batch, which micro-batches (--accumulate) "
            "would change; use more processes, or amp: bf16 in the protocol"
        )
    index = read_index(run.needed_folder("dataset", results).path)
    paths, labels = index.paths("train"), index.labels("train")
    masks = recipe.detector.masks
    data = DetectionImages(paths, labels, index.classes or (), settings, seed, masks)
    torch.manual_seed(seed)
    model = build_detector(recipe.detector, recipe.backbone, recipe.classes)
    notes = []
    if run.pretrained is not None:
        notes = PretrainedWeights(run.pretrained, results).load_into(model.backbone)
    group_batch_norm(model, settings.batch_size, None)
    to_device(model, one_size=False)
    optimizer = build_optimizer(
        SgdSettings(
            kind="sgd", lr=settings.lr, weight_decay=settings.weight_decay, no_decay="norm"
        ),
        model,
    )
    total = settings.iterations
    terms = (*TERMS, "loss_mask") if masks else TERMS
    trainer = Trainer(run, results, execution, deadline, model, optimizer, recipe.amp, terms, total)
    images = f"{len(data)} of {len(paths)} images have objects{' with masks' if masks else ''}"
    if data.maskless:
        notes.append(
            f"{data.maskless} objects have no mask: they are learned as background; write "
            "detector: {masks: false} to learn the boxes of all"
        )
    trainer.announce(f"{images}, {total} steps of {settings.batch_size}", notes)
    device, size = trainer.device, settings.batch_size
    steps = range(trainer.step, total)
    batches = partial(
        detection_batches,
        data,
        batch_size=size,
        seed=seed,
        workers=execution.workers,
        pin=device.type == "cuda",
        rank=rank(),
        processes=world_size(),
    )
    stream = iter(batches(steps=steps))
    model.train()
    while trainer.step < total:
        lr = step_lr(settings.lr, settings.step, trainer.step, total)
        set_lr(optimizer, lr)
        with trainer.waiting():
            batch = next(stream)
        trainer.learn([partial(loss_terms, trainer.parallel.call, on_device(batch, device))])
        trainer.advance(size, {"lr": lr})
    more = range(total, total + settings.precise_norm)
    if more:
        trainer.say(f"statistics of norms over {len(more)} batches")
        with torch.no_grad(), precise_statistics(model), trainer.precision.autocast():
            for batch in trainer.after_training(batches(steps=more), len(more)):
                model(*on_device(batch, device))
    trainer.finish(lambda path: save_detector(path, model, recipe, run.id))


def loss_terms(model: nn.Module, inputs: Inputs) -> dict[str, Term]:
    """Each term of a detector's loss, and their sum."""
    terms: dict[str, Tensor] = model(*inputs)
    return {**terms, "loss": torch.stack(list(terms.values())).sum()}


def on_device(batch: list[Sample], device: torch.device) -> Inputs:
    """Normalised images, objects, and where samples of each are drawn from."""
    images = [
        normalize(one.image.to(device, non_blocking=True)[None].float().div_(255))[0]
        for one in batch
    ]
    objects = [Objects(one.boxes.to(device), one.classes.to(device), one.masks) for one in batch]
    generators = [
        Generators(*(torch.Generator(device).manual_seed(seed) for seed in one.seeds.tolist()))
        for one in batch
    ]
    return images, objects, generators

"""The backbone of a run, from its folder alone."""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cp2.errors import UserError, reading
from cp2.models.backbones import Backbone, build_backbone
from cp2.models.checkpoints import load_backbone as load_into
from cp2.models.weights import load_weights
from cp2.record.folder import RunFolder
from cp2.record.readers import read_recipe
from cp2.settings.models import BackboneSettings


def load_backbone(folder: str | Path, epoch: int | None = None) -> Backbone:
    """The backbone that a pretraining, a finetuning or a checkpoint left, on the CPU, in eval mode.

    It takes images (N, 3, H, W) normalised by ImageNet's mean and deviation.

    Args:
        folder: results/pretrain/<run id>, for example.
        epoch: of a snapshot; None: the last weights.
    Raises:
        UserError: there are no such weights.
        WrongFile: the recipe or the weights are damaged.
    """
    run = RunFolder(Path(folder))
    finals = (run.model, run.path / "backbone.safetensors")
    last = next((path for path in finals if path.is_file()), None)
    path = last if epoch is None else run.snapshots().get(epoch)
    if path is None:
        what = "weights" if epoch is None else f"snapshot of epoch {epoch}"
        raise UserError(f"{run.path}: holds no {what}; `cp2 status` shows what is done")
    recipe, _ = read_recipe(run.recipe)
    kind: Any = TypeAdapter(BackboneSettings)
    with reading(run.recipe, "the recipe of a run with a backbone", "make the run again"):
        settings = kind.validate_python({"title": "", **recipe["backbone"]}, strict=False)
    parts, metadata = load_weights(path)
    backbone = build_backbone(settings)
    load_into(backbone, parts["backbone"], path, metadata)
    return backbone.eval()

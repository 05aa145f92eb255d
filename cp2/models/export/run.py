"""The export of a run: one folder with weights, model card and recipe."""

import os
import shutil
from pathlib import Path

from cp2.errors import UserError
from cp2.models.export.card import model_card
from cp2.models.export.targets import TARGETS, Network, check, state_dict
from cp2.models.weights import load_weights
from cp2.plan.graph import Plan, Run
from cp2.plan.protocols.detection import DetectionFinetuneRecipe
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe
from cp2.plan.recipes import CheckpointRecipe, PretrainRecipe
from cp2.record.files import check_writable
from cp2.record.readers import check_owner


def export_run(
    run: Run,
    plan: Plan,
    results: Path,
    to: str,
    folder: Path,
    with_head: bool = False,
    epoch: int | None = None,
) -> Path:
    """Write a run's weights as another library loads them; returns the weights' file.

    Args:
        to: key of TARGETS.
        folder: to be made; it is there whole or not at all.
        with_head: the segmentation head, too.
        epoch: of a snapshot; None: the last weights.
    Raises:
        UserError: the run is not finished or has no weights, the library cannot express them, or
            the folder is there already or cannot be made.
    """
    if to not in TARGETS:
        raise UserError(f"--to {to!r}: allowed are {', '.join(TARGETS)}")
    target = TARGETS[to]
    if folder.exists() or folder.is_symlink():
        raise UserError(f"{folder}: is there already; give another name, or remove it")
    network = read_network(run, results, epoch)
    check(target, network, with_head)
    check_writable(folder.absolute().parent)
    made = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    made.mkdir()
    try:
        target.write(made / target.file, state_dict(target, network, with_head), network)
        card = model_card(run, plan, results, target, network, folder)
        (made / "README.md").write_text(card, encoding="utf-8")
        shutil.copyfile(run.folder(results).recipe, made / "recipe.json")
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder / target.file


def read_network(run: Run, results: Path, epoch: int | None = None) -> Network:
    """The weights of a finished run, or a snapshot's.

    Raises:
        UserError: it is not finished, of a stage without weights, or has no such snapshot.
        WrongFile: the weights are damaged, or the folder is another run's.
    """
    recipe = run.recipe
    if not isinstance(
        recipe,
        PretrainRecipe | CheckpointRecipe | SegmentationFinetuneRecipe | DetectionFinetuneRecipe,
    ):
        raise UserError(f"{run.key} has no weights; give a pretrain, checkpoint or finetune run")
    kept = run.folder(results).snapshots()
    if epoch is not None and epoch not in kept:
        there = ", ".join(map(str, kept)) or "none; execution.snapshot_every keeps some"
        raise UserError(f"{run.key}: --epoch {epoch}: there are snapshots of epochs {there}")
    if epoch is None and not run.is_done(results):
        raise UserError(f"{run.key} is not finished; `cp2 status` shows how far it is")
    check_owner(run.folder(results).recipe, run.id)
    parts, _ = load_weights(run.outputs(results)["model"] if epoch is None else kept[epoch])
    settings = None if isinstance(recipe, DetectionFinetuneRecipe) else recipe.head
    head = parts.get("head")
    return Network(
        run.key,
        recipe.backbone,
        parts["backbone"],
        (settings, head) if settings is not None and head is not None else None,
        parts.get("classifier"),
    )

"""Checkpoint stage: published files in, and for the demo world, out."""

from collections.abc import Sequence
from pathlib import Path

from cp2.data.download import fetch, used_hash
from cp2.data.hashing import digest
from cp2.errors import WrongFile
from cp2.models.backbones import build_backbone
from cp2.models.checkpoints import load_backbone, load_head, write_moco_checkpoint
from cp2.models.heads import build_head
from cp2.models.layouts.pytorch import WrongNames
from cp2.models.published import PublishedModel, read_published, what_would_fit
from cp2.models.weights import State, load_weights, save_weights
from cp2.plan.graph import Run
from cp2.plan.recipes import CheckpointRecipe, PublishRecipe
from cp2.record.files import write_text
from cp2.settings.base import hashed_fields
from cp2.stages import weights_of


def import_checkpoint(run: Run, results: Path, mirrors: Sequence[Path], downloads: Path) -> None:
    """Fetch and verify a file, load it strictly into backbone and head, and write these.

    done.json records the file's hash, whether that was published or is the one of the first
    download, what was left out and what was adapted.

    Raises:
        UserError, WrongFile: the file is missing, is not what its hash says, holds code, or does
            not match the backbone or the head in every key and shape.
    """
    recipe = run.recipe
    assert isinstance(recipe, CheckpointRecipe)
    settings = recipe.checkpoint
    folder = run.folder(results)
    folder.start(
        hashed_fields(recipe), {**run.tags, "stage": run.stage, "run_id": run.id}, device="cpu"
    )
    path = fetch(settings.archive, downloads, mirrors)
    model, parts, notes = _load(path, recipe)
    metadata = {"source": settings.archive.file}
    if recipe.backbone.family == "vit":
        metadata["heads"] = str(recipe.backbone.heads)
    save_weights(weights_of(run.key, results), parts, metadata)
    folder.finish(
        {
            "file": str(path),
            "hash": used_hash(settings.archive, downloads),
            "hash_published": settings.archive.hash is not None,
            "sha256": digest(path, "sha256"),
            "licence": settings.licence,
            "padding": settings.padding,
            "input": settings.input,
            "dropped": model.dropped,
            "notes": notes,
        }
    )
    print(f"{run.id}: {sum(map(len, parts.values()))} tensors, {len(model.dropped)} left out")


def _load(
    path: Path, recipe: CheckpointRecipe
) -> tuple[PublishedModel, dict[str, State], list[str]]:
    """What is in the file, state dicts of the loaded backbone and head, and what was adapted."""
    settings = recipe.checkpoint
    backbone = build_backbone(recipe.backbone)
    try:
        model = read_published(path, settings.layout, settings.prefix, settings.drop)
        metadata = dict(model.metadata)
        if settings.attention_heads is not None:
            metadata["heads"] = str(settings.attention_heads)
        notes = load_backbone(backbone, model.backbone, path, metadata)
    except WrongNames as error:
        hint = what_would_fit(path, settings.layout, backbone.state_dict())
        raise WrongFile(f"{error}{hint}") from error
    parts = {"backbone": backbone.state_dict()}
    if recipe.head is not None:
        if model.head is None:
            raise WrongFile(
                f"{model.path} holds no segmentation head, but configs/checkpoints.yaml says head: "
                f"{settings.head}. Remove that line, or give the right file."
            )
        head = build_head(recipe.head, backbone.channels)
        notes += load_head(head, model.head, model.path)
        parts["head"] = head.state_dict()
    elif model.head is not None:
        notes.append(f"left the segmentation head out ({len(model.head)} tensors): no head is set")
    return model, parts, notes


def publish_checkpoint(run: Run, results: Path) -> Path:
    """Write a MoCo v2 pretraining as its official release would be, with its SHA256SUMS."""
    recipe = run.recipe
    assert isinstance(recipe, PublishRecipe)
    folder = run.folder(results).path
    trained = weights_of(run.needs[0], results)
    parts, _ = load_weights(trained)
    encoder = parts["backbone"] | {f"fc.{key}": tensor for key, tensor in parts["fc"].items()}
    path = folder / recipe.published.file
    write_moco_checkpoint(
        path,
        encoder,
        parts["keys"]["queue"],
        epoch=recipe.published.epochs,
        arch=recipe.published.backbone,
    )
    write_text(folder / "SHA256SUMS", f"{digest(path, 'sha256')}  {path.name}\n")
    return path

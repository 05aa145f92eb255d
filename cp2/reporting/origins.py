"""What of a number was made elsewhere: scores, released weights, files without a published hash."""

from pathlib import Path
from typing import Literal

from cp2.errors import WrongFile
from cp2.plan.graph import Cell, Plan, Run
from cp2.plan.recipes import CheckpointRecipe
from cp2.record.readers import read_object

Imported = Literal["imported scores", "imported weights"]
_SHOWN = 12  # hex digits of a hash


def imported_from(plan: Plan, cell: Cell, released: bool) -> Imported | None:
    """What a cell shows in place of a result of our own; a baseline's weights are no such thing.

    Args:
        released: whether the table is about weights that the paper's authors released.
    """
    if cell.imported:
        return "imported scores"
    with_head = (
        isinstance(run.recipe, CheckpointRecipe) and run.recipe.head is not None
        for run in plan.ancestors(list(cell.runs))
    )
    return "imported weights" if released or any(with_head) else None


def made_elsewhere(plan: Plan, cell: Cell, results: Path) -> str | None:
    """The cell's footnote; None where everything is our own or comes from files of known hash."""
    if cell.imported:
        scores = cell.imported
        return (
            f"scores imported, not run here: {scores.source} ({scores.file}, sha256 "
            f"{scores.sha256[:_SHOWN]})"
        )
    notes = [
        note
        for run in plan.ancestors(list(cell.runs))
        if isinstance(run.recipe, CheckpointRecipe)
        for note in _checkpoint_notes(run, run.recipe, results)
    ]
    return "; ".join(notes) or None


def _checkpoint_notes(run: Run, recipe: CheckpointRecipe, results: Path) -> list[str]:
    settings = recipe.checkpoint
    notes = []
    if recipe.head is not None:
        notes.append(
            f"weights of backbone and head imported from {settings.archive.file}, "
            f"{_digest(run, results)}"
        )
    elif settings.archive.hash is None:
        notes.append(f"{settings.archive.file}, {_digest(run, results)}")
    if settings.archive.hash is None:
        notes[-1] += " (no hash is published; held to that of the first download)"
    if settings.note:
        notes.append(settings.note)
    return notes


def _digest(run: Run, results: Path) -> str:
    done = run.folder(results).done
    if not done.is_file():
        return "not read yet"
    try:
        digest = read_object(done).get("sha256")
    except WrongFile as error:
        return f"of unknown hash: {error}"
    return f"sha256 {digest[:_SHOWN]}" if isinstance(digest, str) else "not read yet"

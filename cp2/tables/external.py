"""External results behind a number: imported scores, released weights, files that failed."""

from pathlib import Path
from typing import Literal

from cp2.errors import WrongFile
from cp2.plan.graph import Cell, Plan, Run
from cp2.plan.recipes import CheckpointRecipe, DatasetRecipe, PretrainRecipe
from cp2.record.attempts import read_attempts
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


def external_note(plan: Plan, cell: Cell, results: Path) -> str | None:
    """The cell's footnote; None where everything is our own or comes from files of known hash."""
    if cell.imported:
        scores = cell.imported
        return (
            f"scores imported, not run here: {scores.source} ({scores.file}, sha256 "
            f"{scores.sha256[:_SHOWN]})"
        )
    notes: list[str] = []
    for run in plan.ancestors(list(cell.runs)):
        if isinstance(run.recipe, CheckpointRecipe):
            notes += _checkpoint_notes(run, run.recipe, results)
        elif isinstance(run.recipe, PretrainRecipe) and run.recipe.method.note:
            notes.append(run.recipe.method.note)
    return "; ".join(dict.fromkeys(notes)) or None


def failed_file(plan: Plan, cell: Cell, results: Path) -> str | None:
    """The first checkpoint or data set below the cell whose last attempt failed, with its error.

    What to do by hand, where configs/checkpoints.yaml says so, is a part of it.
    """
    for run in plan.ancestors(list(cell.runs)):
        if isinstance(run.recipe, CheckpointRecipe | DatasetRecipe) and not run.is_done(results):
            attempts = read_attempts(run.folder(results).path)
            if attempts and attempts[-1].outcome == "failed":
                return _failure(run, attempts[-1].error or "no reason was recorded")
    return None


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


def _failure(run: Run, error: str) -> str:
    text = f"{run.stage} {run.id} failed: {error}"
    if isinstance(run.recipe, CheckpointRecipe):
        manual = run.recipe.checkpoint.archive.manual
        if manual and manual.strip() not in error:
            return f"{text} {manual.strip()}"
    return text

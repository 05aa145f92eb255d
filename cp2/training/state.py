"""What a resume needs, in `state/`: the newest save and the one before it."""

from pathlib import Path
from typing import Any

import torch

from cp2.record.files import whole_file


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Save tensors, numbers and text; the last save is kept as `previous.pt`.

    A kill at any moment leaves at least one whole file.

    Raises:
        UserError: the disk is full.
    """
    newest, previous = folder / "last.pt", folder / "previous.pt"
    with whole_file(folder / "new.pt") as temporary:
        torch.save(state, temporary)
    if newest.exists():
        newest.replace(previous)
    (folder / "new.pt").replace(newest)


def load_state(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest whole state, or None where there is none.

    A truncated or damaged file falls back to the save before it.
    """
    for name in ("new.pt", "last.pt", "previous.pt"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            print(f"{path} cannot be read ({type(error).__name__}); trying the save before it")
            continue
        return state
    return None


def remove_state(folder: Path) -> None:
    """Free the disk once the run is done."""
    for name in ("new.pt", "last.pt", "previous.pt"):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()

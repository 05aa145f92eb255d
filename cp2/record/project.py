"""A project's folder: what a checkout has beside the package, and an installed wheel carries."""

import shutil
from importlib import metadata
from pathlib import Path

from cp2.errors import UserError

CONTENT = ("Snakefile", "environment.yml", "configs", "workflow", "reports/published")


def init_project(folder: Path) -> None:
    """Put configurations and workflow into a folder that is empty or not there yet.

    Raises:
        UserError: there is something in it, or this installation carries no project.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is not empty; give the name of an empty or a new folder")
    source = _source()
    for name in CONTENT:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_file():
            shutil.copy(source / name, target)
        else:
            shutil.copytree(source / name, target, symlinks=False)


def _source() -> Path:
    """The checkout that the package lies in, or what the wheel put beside it."""
    checkout = Path(__file__).parents[2]
    if (checkout / "Snakefile").is_file():
        return checkout
    for file in metadata.files("cp2-reproduction") or ():
        if file.parts[-3:] == ("share", "cp2", "Snakefile"):
            return Path(str(file.locate())).resolve().parent
    raise UserError(
        "this installation has no configurations; install the wheel, or clone the repository"
    )

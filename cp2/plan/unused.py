"""Folders of runs that no campaign wants any more."""

from collections.abc import Iterator
from pathlib import Path

from cp2.errors import UserError
from cp2.plan.build import build_plan
from cp2.record.folder import RunFolder
from cp2.settings.load import Configuration, load_campaign
from cp2.stages import STAGES

_KEPT = ("world", "publish")  # cheap, and one folder for all of a world


def unused(configuration: Configuration) -> list[RunFolder]:
    """Run folders below a campaign's results that it and all of configs/*.yaml do not plan.

    Runs made with other `--set` than the configuration's are among them.

    Raises:
        UserError: one of the campaigns cannot be planned, so that its runs are not known.
    """
    results = configuration.results
    wanted = set(build_plan(configuration).runs)
    for path in sorted(configuration.configs.glob("*.yaml")):
        if path.stem == "checkpoints":
            continue
        try:
            other = load_campaign(path.stem, (), configuration.configs)
            if other.results.resolve() == results.resolve():
                wanted |= set(build_plan(other).runs)
        except UserError as error:
            raise UserError(
                f"{path} cannot be planned, so that nobody knows what it wants; mend or move it: "
                f"{error}"
            ) from error
    return [RunFolder(path) for key, path in _folders(results) if key not in wanted]


def _folders(results: Path) -> Iterator[tuple[str, Path]]:
    """Key and path of every run folder that is there."""
    for stage in STAGES.values():
        if stage.name in _KEPT:
            continue
        folder = stage.run_folder(results, "x").path.parent
        for path in sorted(folder.glob("*")):
            if path.is_dir() and not path.is_symlink():
                yield f"{stage.name}/{path.name}", path


def disk_use(folder: Path) -> int:
    """Bytes of all files below a folder; two names of one file count once."""
    files = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        files[status.st_dev, status.st_ino] = status.st_size
    return sum(files.values())

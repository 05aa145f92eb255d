"""Second names of a finished run's files: Snakemake, which deletes outputs, does not know them.

It deletes what a run has before it makes the run, also what another process finished after the plan
was made, and after an attempt that it takes for failed. The next job gives such files their names
back and trains nothing.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cp2.errors import UserError
from cp2.record.files import write_text

SUMS = "SHA256SUMS"
FOLDER = ".finished"  # in the run's folder; below it, one folder named by the run's digest


def keep(files: Sequence[Path], digest: str) -> None:
    """Hard-link finished files into `.finished/<digest>/`.

    On a file system without hard links nothing is kept. Their SHA-256 go with them, for what
    damages a file damages it under both names.

    Raises:
        UserError: one of them is gone.
    """
    place = _place(files, digest)
    forget(place.parent)
    place.mkdir(parents=True)
    for file in files:
        try:
            os.link(file, place / file.name)
        except FileNotFoundError:
            forget(place.parent)
            raise UserError(
                f"{file}: was deleted while this run was finished, as Snakemake does before it "
                "makes a run; start again: it goes on from the last saved state"
            ) from None
        except OSError:
            forget(place.parent)
            return
    write_text(place / SUMS, "".join(f"{_sha256(file)}  {file.name}\n" for file in files))


def take_back(files: Sequence[Path], digest: str) -> bool:
    """Give kept files their names again, the last one last; whether all were there, undamaged."""
    place = _place(files, digest)
    try:
        sums = (place / SUMS).read_text(encoding="utf-8").splitlines()
        if sums != [f"{_sha256(place / file.name)}  {file.name}" for file in files]:
            return False
    except (OSError, ValueError):
        return False
    for file in files:
        file.unlink(missing_ok=True)
        os.link(place / file.name, file)
        os.utime(file)  # for Snakemake: later than what it was made from
    return True


def forget(place: Path) -> None:
    """Remove a `.finished`, whose files may have to be made again."""
    if place.is_symlink():
        place.unlink()
    with suppress(FileNotFoundError):
        shutil.rmtree(place)


def has_content(path: Path) -> bool:
    """Whether a final file is there; an empty one is what a crash of the file system left."""
    try:
        return path.stat().st_size > 0 and path.is_file()
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(files: Sequence[Path], digest: str) -> Path:
    return files[-1].parent / FOLDER / (digest or "none")

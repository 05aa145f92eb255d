"""Digests of archives."""

import hashlib
from pathlib import Path

from tqdm import tqdm

from cp2.errors import WrongFile

CHUNK = 1 << 20  # bytes


def digest(path: Path, algorithm: str) -> str:
    """Hex digest of a file's content; `algorithm` is md5, sha1 or sha256.

    Shows a progress bar on a terminal, for data set archives are read for minutes.
    """
    state = hashlib.new(algorithm, usedforsecurity=False)
    with (
        path.open("rb") as file,
        tqdm(
            total=path.stat().st_size,
            desc=f"checking {path.name}",
            unit="B",
            unit_scale=True,
            disable=None,
            leave=False,
        ) as bar,
    ):
        while chunk := file.read(CHUNK):
            state.update(chunk)
            bar.update(len(chunk))
    return state.hexdigest()


def verify(path: Path, expected: str | None, remedy: str | None = None) -> None:
    """Compare a file with "algorithm:hex digits"; fewer digits than the algorithm's are a prefix.

    None: nothing is known, so nothing is checked.

    Raises:
        WrongFile: the digest differs.
    """
    if expected is None:
        return
    algorithm, _, wanted = expected.partition(":")
    found = digest(path, algorithm)
    if not found.startswith(wanted):
        remedy = remedy or f"delete {path} and start again, or put a good copy in its place"
        size = path.stat().st_size
        raise WrongFile(
            f"{path} is not the file it should be ({size} bytes):\n"
            f"  expected {algorithm} {wanted}\n"
            f"  found    {algorithm} {found}\n"
            f"It may be incomplete or changed: {remedy}."
        )

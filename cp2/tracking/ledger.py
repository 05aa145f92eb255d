"""What was sent to one tracking store, remembered so that a repeat reads and asks nothing.

The store's own tags hold the same, so that a lost or doubtful ledger costs one search, no truth.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cp2.record.digest import digest
from cp2.record.files import write_text
from cp2.tracking.steps import Bookmark

VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One run as it was sent.

    Attributes:
        mlflow_id: the id that MLflow gave it.
        status: MLflow's word.
        state: digest of all that was sent beside the steps; "": not all was sent.
        place: the folder that it was read from.
        doubtful: more than this may be there: it was told by the store after an import that may
            have broken off.
    """

    mlflow_id: str
    status: str = "RUNNING"
    state: str = ""
    place: str = ""
    bookmark: Bookmark = field(default_factory=Bookmark)
    doubtful: bool = False


class Ledger:
    """Entries by run key.

    Attributes:
        store: what tells this store from another one at the same URI.
        trusted: whether the entries are known to be what the store has: false where an import was
            broken off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: dict[str, Entry] = {}
        self.store: str | None = None
        self.trusted = False
        self._open = False
        try:
            self._read(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.entries = {}  # it will be made again from the store's tags

    def _read(self, content: dict[str, Any]) -> None:
        if content["version"] != VERSION or not content["whole"]:
            return
        for key, value in content["entries"].items():
            self.entries[key] = Entry(**{**value, "bookmark": Bookmark(**value["bookmark"])})
        self.store = content["store"]
        self.trusted = True

    def put(self, key: str, entry: Entry) -> None:
        """Before anything is sent and after: until `close`, the file says that it is not whole."""
        self.begin()
        self.entries[key] = entry

    def begin(self) -> None:
        """Something is about to be sent."""
        if not self._open:
            self._write(whole=False)
            self._open = True

    def close(self) -> None:
        """All that was begun was sent."""
        if self._open:
            self._write(whole=True)
            self._open = False

    def _write(self, whole: bool) -> None:
        entries = {key: asdict(entry) for key, entry in self.entries.items()} if whole else {}
        content = {"version": VERSION, "whole": whole, "store": self.store, "entries": entries}
        write_text(self._path, json.dumps(content))


def state_of(folder: Path, names: tuple[str, ...], told: Any) -> str:
    """Digest of when some files of a folder were written, and of what is told beside them."""
    files: list[list[int] | None] = []
    for name in names:
        try:
            found = (folder / name).stat()
        except OSError:
            files.append(None)
        else:
            files.append([found.st_mtime_ns, found.st_size])
    return digest([files, told])[:16]

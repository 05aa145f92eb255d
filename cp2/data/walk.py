"""The one walk through folders of images: every file is used, or counted and named as left out."""

import os
import re
from collections import Counter
from pathlib import Path

from cp2.data.pillow import image_suffixes

SHOWN = 3  # names of a kind, where there are many
_NOT_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # surrogates: bytes that are not UTF-8
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_OF_MACOS = re.compile(r"\._|__MACOSX$|\.DS_Store$")
_OF_SERVERS = re.compile(
    r"(@eaDir|@tmp|@Recycle|@Recently-Snapshot|\.@__thumb|#recycle|#snapshot|\$RECYCLE\.BIN"
    r"|SYNOPHOTO_THUMB_.*|lost\+found|Thumbs\.db)$",
    re.IGNORECASE,
)


class LeftOut:
    """Files that were not used: how many for each reason, and the first few of their names."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._names: dict[str, list[str]] = {}

    def add(self, reason: str, path: Path | str, files: int = 1) -> None:
        """Count a file, or a folder with so many files."""
        self.counts[reason] += files
        names = self._names.setdefault(reason, [])
        if len(names) < SHOWN:
            names.append(printable(path))

    def notes(self) -> list[str]:
        """A line a reason, the most frequent first."""
        lines = []
        for reason, count in self.counts.most_common():
            names = self._names[reason]
            more = ", ..." if count > len(names) else ""
            lines.append(f"left out, {reason}: {count} ({', '.join(names)}{more})")
        return lines


def printable(path: Path | str) -> str:
    """A path as text for messages and files, whatever its bytes are: caf\\xe9.jpg."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return _NOT_TEXT.sub(lambda match: repr(match.group())[1:-1], text)


def not_wanted(name: str) -> str | None:
    """Why a file or folder of this name is no one's photograph; None: it may be one."""
    if _OF_MACOS.match(name):
        return "metadata of macOS"
    if _OF_SERVERS.match(name):
        return "thumbnails or deleted files of a file server"
    if name.startswith("."):
        return "hidden"
    if _CONTROL.search(name):
        return "the name holds a line break or another control character; rename it"
    if _NOT_TEXT.search(name):
        return "the name is not UTF-8 text; rename it"
    return None


def files_below(
    folder: Path, left_out: LeftOut, suffixes: frozenset[str] | None = None, once: bool = True
) -> list[Path]:
    """All files of these suffixes (default: images) at any depth, links followed, sorted.

    Args:
        left_out: counts all others, and folders that cannot be entered or lead back.
        once: a folder that two links lead to counts once; else under both names.
    """
    suffixes = image_suffixes() if suffixes is None else suffixes
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    folders: list[tuple[Path, tuple[tuple[int, int], ...]]] = [(folder, ())]
    links: list[tuple[Path, tuple[tuple[int, int], ...]]] = []  # after what really lies there
    while folders or links:
        here, above = folders.pop() if folders else links.pop(0)
        try:
            status = here.stat()
            with os.scandir(here) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            left_out.add(f"folders that cannot be entered ({error.strerror})", here)
            continue
        address = (status.st_dev, status.st_ino)
        if address in (seen if once else above) and status.st_ino:
            left_out.add("folders that another path leads to already", here)
            continue
        seen.add(address)
        for entry in entries:
            path = here / entry.name
            is_folder, is_file = _kind(entry)
            if reason := not_wanted(entry.name):
                left_out.add(reason, path, _files_in(path) if is_folder else 1)
            elif is_folder:
                (links if entry.is_symlink() else folders).append((path, (*above, address)))
            elif not is_file:
                left_out.add("broken links, devices", path)
            elif path.suffix.lower() in suffixes:
                found.append(path)
            else:
                left_out.add(f"suffix {path.suffix.lower() or '(none)'}", path)
    return sorted(found)


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:  # a link to itself
        return False, False


def _files_in(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))

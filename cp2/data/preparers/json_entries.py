"""The lists of a json of any size, entry by entry."""

import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK = 1 << 20
_LARGEST = 64 << 20  # bytes of one entry
_DECODER = json.JSONDecoder()


class _Text:
    """A file's bytes as text of one character a byte, of which little is held at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._text, self._at, self._before = file, "", 0, 0

    def _more(self) -> bool:
        held = len(self._text) - self._at
        if held > _LARGEST:
            raise ValueError(f"an entry of more than {_LARGEST >> 20} MiB")
        chunk = self._file.read(max(_CHUNK, held))  # as much again: a long entry is not slower
        self._before += self._at
        self._text, self._at = self._text[self._at :] + chunk.decode("latin-1"), 0
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is no space."""
        while True:
            while self._at < len(self._text):
                if not (char := self._text[self._at]).isspace():
                    return char
                self._at += 1
            if not self._more():
                raise ValueError("it ends too early")

    def take(self, char: str) -> None:
        if (found := self.peek()) != char:
            raise ValueError(f"{found!r} at byte {self._before + self._at}, not {char!r}")
        self._at += 1

    def value(self) -> tuple[Any, int, bytes]:
        """The next value, its first byte, and all of them."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._more():
                    raise
                continue
            if end == len(self._text) and self._more():
                continue  # a number may go on
            first, self._at = self._at, end
            return found, self._before + first, self._text[first:end].encode("latin-1")

    def until(self, end: str) -> Iterator[None]:
        """Stop before each entry of what began; take its end."""
        while self.peek() != end:
            yield
            if self.peek() != end:
                self.take(",")
        self.take(end)


def entries(path: Path, lists: Container[str], plain: str) -> Iterator[tuple[str, Any, int, int]]:
    """Each entry of these lists of a mapping: the list's name, the entry, its first byte and end.

    Args:
        plain: the list whose entries' texts are left undecoded (one character a byte).
    """
    with path.open("rb") as file:
        text = _Text(file)
        text.take("{")
        for _ in text.until("}"):
            name, *_ = text.value()
            text.take(":")
            if text.peek() != "[":
                text.value()
                continue
            text.take("[")
            for _ in text.until("]"):
                entry, first, content = text.value()
                if name in lists:
                    if name != plain:
                        entry = json.loads(content)
                    yield name, entry, first, first + len(content)

"""The lists of a json of any size, entry by entry."""

import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK = 1 << 20
_LARGEST = 64 << 20  # bytes of one entry
_CUT = 16  # bytes: a word, number or escape that the buffer's end may have cut is shorter
_BOM = b"\xef\xbb\xbf"
_DECODER = json.JSONDecoder()


class _Text:
    """A file's bytes as text of one character a byte, of which little is held at once."""

    def __init__(self, file: BinaryIO) -> None:
        if file.read(len(_BOM)) != _BOM:
            file.seek(0)
        self._file, self._text, self._at, self._before = file, "", 0, file.tell()

    def _more(self) -> bool:
        held = len(self._text) - self._at
        if held > _LARGEST:
            raise ValueError(f"an entry of more than {_LARGEST >> 20} MiB")
        chunk = self._file.read(max(_CHUNK, held))  # as much again: a long entry is not slower
        self._before += self._at
        self._text, self._at = self._text[self._at :] + chunk.decode("latin-1"), 0
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is no space, none at the end."""
        while True:
            while self._at < len(self._text):
                if (char := self._text[self._at]) not in " \t\n\r":
                    return char
                self._at += 1
            if not self._more():
                return ""

    def take(self, char: str) -> None:
        """Go on behind this character; "" is the end."""
        if (found := self.peek()) != char:
            wanted = f"not {char!r}" if char else "behind its end"
            place = f"{found!r} at byte {self._before + self._at}, {wanted}"
            raise ValueError(place if found else "it ends too early")
        self._at += 1

    def value(self) -> tuple[Any, int, bytes]:
        """The next value, its first byte, and all of them."""
        if not self.peek():
            raise ValueError("it ends too early")
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                ended = error.msg.startswith("Unterminated") or error.pos + _CUT > len(self._text)
                place = self._before + error.pos
                if ended and self._more():
                    continue
                what = error.msg.removesuffix(" at").rstrip(": ")
                raise ValueError(f"{what} at byte {place}") from error
            if end == len(self._text) and self._more():
                continue  # a number may go on
            first, self._at = self._at, end
            return found, self._before + first, self._text[first:end].encode("latin-1")

    def until(self, end: str) -> Iterator[None]:
        """Stop before each entry of what began; take its end."""
        comma = False
        while comma or self.peek() != end:
            yield
            if comma := self.peek() != end:
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
            for number, _ in enumerate(text.until("]"), 1):
                try:
                    entry, first, content = text.value()
                    if name in lists and name != plain:
                        entry = json.loads(content)
                except ValueError as error:
                    raise ValueError(f"entry {number} of {name}: {error}") from error
                if name in lists:
                    yield name, entry, first, first + len(content)
        text.take("")

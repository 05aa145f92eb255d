"""What is shown of texts that may hold a password, a token or a signed address."""

import re
from collections.abc import Iterable

# Scheme, user and password, host and path, query. A password may hold / and @ where someone forgot
# to encode it. Files and SQLite have paths only, in which # and ? are characters.
_URL = re.compile(
    r"\b(?!file:|sqlite:)([A-Za-z][A-Za-z0-9+.-]*://)"
    r"(?:[^\s/:@]*:\S*@|[^\s/?#]*@)?"
    r"([^\s?#'\"<>]*)"
    r"(?:[?#][^\s'\"<>]*?(?=[\])},;:.]*(?:[\s'\"<>]|$)))?"
)
_REQUESTED = re.compile(r"(\burl: /[^\s?]*)\?\S*")  # urllib3: "Max retries exceeded with url: /a?b"
_SECRET = r"(?:token|secret|passw|passphrase|pwd|credential|auth|(?:api|access|private)[_.-]?key)"
_KEY = re.compile(_SECRET, re.IGNORECASE)
_INSIDE = re.compile(rf"({_SECRET}[\w.-]*[\"']?\s*[:=]\s*)[^,}}\]]+", re.IGNORECASE)
HIDDEN = "***"


def plain_urls(text: str) -> str:
    """The text with scheme, host and path of its URLs only: no user, no password, no query."""
    return _REQUESTED.sub(r"\1", _URL.sub(r"\1\2", text))


def without_secrets(words: Iterable[str]) -> list[str]:
    """Words of a command: URLs plain, values of options and keys that look like secrets hidden."""
    shown: list[str] = []
    hide = False
    for word in words:
        plain = plain_urls(word)
        key, sign, _ = plain.partition("=")
        secret = _KEY.search(key) is not None
        if hide:
            plain = HIDDEN
        elif sign and secret:
            plain = f"{key}={HIDDEN}"
        else:
            plain = _INSIDE.sub(rf"\1{HIDDEN}", plain)
        hide = not hide and secret and not sign and word.startswith("-")
        shown.append(plain)
    return shown

"""What is shown of texts that may hold a password, a token or a signed address."""

import re
from collections.abc import Iterable

# Scheme, user and password, host and path, query. A password may hold /, @ and spaces where someone
# forgot to encode it; a query, quotes. Files and SQLite have paths only, in which # and ? are
# characters.
_PATH = r"(?:(?![;&][\w.-]+=)[^\s?#])*"  # up to a query, be it one without its ?
_URL = re.compile(
    r"\b(?!file:|sqlite:)([A-Za-z][A-Za-z0-9+.-]*://)"
    r"(?:[^\s/:@]*:\S*@|[^\s/:@]*:(?!\s|\d{1,5}\b)(?:(?!://)[^\n])*@|[^\s/?#]*@)?"
    rf"({_PATH})"
    r"(?:[?#;&](?:=(['\"])[^\n]*?\3|\S)*?(?=[\])},;:.'\"<>]*(?:\s|$)))?"
)
# The user of a file's address, and of one with a slash too few or without its scheme.
_USER = re.compile(r"((?:\bfile:/|\bhttps?:|(?<![\w:/])/)/)[^\s/:@]+:[^\s/@]+@")
# urllib3: "Max retries exceeded with url: /a?b"
_REQUESTED = re.compile(rf"(\burl: /{_PATH})[?#;&]\S*")
_SECRET = (
    r"(?:token|secret|passw|passphrase|pwd|pw(?![a-z])|access.?code|credential"
    r"|auth|signature|cookie|session|bearer"
    r"|pass(?![a-z])|key(?![a-z_])|(?<![a-z])(?:sig|sas|dsn)(?![a-z]))"
)
_KEY = re.compile(_SECRET, re.IGNORECASE)
# In doubt all that follows: where a value ends is its own syntax's affair.
_INSIDE = re.compile(rf"({_SECRET}[\w.-]*[\"']?\s*[:=]\s*|bearer\s+).+", re.IGNORECASE | re.DOTALL)
_NO_VALUE = re.compile(r"|basic|bearer|digest|token", re.IGNORECASE)  # the secret is the next word
HIDDEN = "***"


def plain_urls(text: str) -> str:
    """The text with scheme, host and path of its URLs only: no user, no password, no query."""
    return _REQUESTED.sub(r"\1", _USER.sub(r"\1", _URL.sub(r"\1\2", text)))


def without_secrets(words: Iterable[str]) -> list[str]:
    """Words of a command: URLs plain, values of options and keys that look like secrets hidden."""
    shown: list[str] = []
    hide = False
    for word in words:
        plain = _INSIDE.sub(rf"\1{HIDDEN}", plain_urls(word))
        key, sign, _ = plain.partition("=")
        secret = _KEY.search(key) is not None
        asks = secret and not sign and word.startswith("-") and not word.startswith("--no-")
        if hide:
            plain = HIDDEN
        elif sign and secret:
            plain = f"{key}={HIDDEN}"
        open_key = secret and re.fullmatch(r"[^:=]*[:=]", word) is not None
        hide = _NO_VALUE.fullmatch(word) is not None if hide else asks or open_key
        shown.append(plain)
    return shown

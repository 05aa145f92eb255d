"""The bytes of a URL in a file: resumed, never mixed of two versions, never cut short unnoticed."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3
from tqdm import tqdm

from cp2.data.hashing import CHUNK
from cp2.errors import UserError, said
from cp2.record.files import append_to, write_text
from cp2.redaction import plain_urls

ATTEMPTS = 5  # in a row without a single new byte
BACKOFF = 1.0  # seconds before the second attempt, doubled each time
TIMEOUT = (20, 60)  # seconds to connect, seconds without a byte
PIECE = 1 << 16  # bytes; what a broken connection can lose at most
REDIRECTS = 10
_WHOLE = re.compile("[0-9]{1,18}")  # bytes that a header may name
_VERSION = re.compile("[!-~][ -~\xa0-\xff]{0,999}")  # what a header can hold


class Unreachable(Exception):
    """One URL gave nothing; another may."""


class _Interrupted(Exception):
    """The transfer broke off; trying again may help."""


class _Other(_Interrupted):
    """What the server has is not what the part is of; it was dropped."""


class _Kept(NamedTuple):
    """What tells the file that a part is of: its ETag or date, and its bytes, where it said so."""

    version: str
    total: int | None


def transfer(url: str, part: Path, known: bool = False, most: int | None = None) -> None:
    """Bring a URL's content into `part`, going on behind the bytes already there.

    What tells one version of the file from another (ETag, Last-Modified) is kept beside it.

    Args:
        known: whether the content's hash is, so that a mixture of two versions would be noticed.
        most: bytes that are taken at most, of content that may be cut short.
    Raises:
        Unreachable: nothing came, or nothing that can be trusted; with a cause where the network
            is to blame.
        UserError: another scheme than file, http and https.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise Unreachable(f"is no address: {error}") from None
    if scheme == "file":
        return _copy(_local(url), part, most)
    if scheme not in ("http", "https"):
        raise UserError(
            f"cannot download {plain_urls(url)}: only file://, http:// and https:// are known"
        )
    attempt = others = 0
    while True:
        before = _size(part)
        try:
            return _request(url, part, known, most)
        except _Interrupted as error:
            attempt = 1 if _size(part) > before else attempt + 1
            others += isinstance(error, _Other)
            if max(attempt, others) >= ATTEMPTS:
                raise Unreachable(f"{error} ({ATTEMPTS} attempts)") from error
            time.sleep(BACKOFF * 2 ** (attempt - 1))


def _local(url: str) -> Path:
    """The file of a file:// address; its path may hold % or # as they are."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise Unreachable(
            "it names no file of this machine; write file:// and its whole path, /..."
        )
    as_written = Path(url.removeprefix("file://"))
    return as_written if as_written.is_file() else Path(url2pathname(parts.path))


def _copy(source: Path, part: Path, most: int | None) -> None:
    if not source.is_file():
        raise Unreachable("a folder or a device" if source.exists() else "no such file")
    total = _at_most(source.stat().st_size, most)
    part.unlink(missing_ok=True)
    with source.open("rb") as reader, part.open("xb") as writer, _bar(part, 0, total) as bar:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            bar.update(len(chunk))


def _request(url: str, part: Path, known: bool, most: int | None) -> None:
    kept = _kept(part)
    have = _size(part) if kept or known else 0
    # identity: a server that compresses on the fly would make sizes and ranges meaningless
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    if have and kept:  # of another version, the server sends all
        headers["If-Range"] = kept.version
    try:
        with _answer(url, headers) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                ends_here = response.headers.get("Content-Range") == f"bytes */{have}"
                if ends_here and (known or (kept and kept.total == have)):
                    return  # everything was there already
                drop(part)
                raise _Other("the server's file is shorter than the part that was here")
            _check_status(response)
            resumed = response.status_code == requests.codes.partial_content
            if resumed:
                total: int | None = _total_resumed(response, have)
                _check_same(_Kept(_version(response), total), kept, part, known)
            else:
                total = _total(response, known or most is not None)
            total = _at_most(total, most)
            if not resumed:
                drop(part)
                write_text(_version_file(part), f"{_version(response)}\n{total or ''}")
            _save(response, part, have if resumed else 0, total, most)
    except ValueError as error:  # of requests, too: an address or a header that means nothing
        raise Unreachable(f"it leads nowhere ({said(error)})") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Interrupted(f"{type(error).__name__}: {error}") from error
    if total is not None and _size(part) != total:
        raise _Interrupted(f"got {_size(part)} of {total} bytes")


def _check_same(found: _Kept, kept: _Kept | None, part: Path, known: bool) -> None:
    """Drop a part whose rest is of another version; where no hash would tell, of one that may be.

    Raises:
        _Other: it was dropped.
    """
    alike = kept is None or found.version in (kept.version, "")
    if not (alike if known else found == kept):
        drop(part)
        raise _Other("the server's file is another one than the part that was here")


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    """What the server sends, after redirects to http and https; from https to https only."""
    for _ in range(REDIRECTS):
        options: dict[str, Any] = {"stream": True, "timeout": TIMEOUT, "allow_redirects": False}
        with requests.get(url, headers=headers, **options) as response:
            if response.next is None:
                yield response
                return
            target = str(response.next.url)
        scheme = urlsplit(url).scheme
        if urlsplit(target).scheme not in ("https", scheme):
            raise Unreachable(f"it redirects from {scheme} to {plain_urls(target)}: refused")
        url = target
    raise Unreachable(f"more than {REDIRECTS} redirects")


def _version(response: requests.Response) -> str:
    """What tells this content from another at the same URL, as If-Range takes it; "": nothing."""
    tag = str(response.headers.get("ETag", ""))
    weak = not tag or tag.startswith("W/")
    return str(response.headers.get("Last-Modified", "")) if weak else tag


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _kept(part: Path) -> _Kept | None:
    """What was written beside a part; None: nothing, or damaged."""
    path = _version_file(part)
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", errors="replace") as file:
        version, _, total = file.read(1101).partition("\n")
    if not _VERSION.fullmatch(version) or not _WHOLE.fullmatch(total or "0"):
        return None
    return _Kept(version, int(total) if total else None)


def _total(response: requests.Response, unsaid: bool) -> int | None:
    """Bytes of a whole file; None where it is not said, and need not be (`unsaid`)."""
    length = response.headers.get("Content-Length")
    if length is None and unsaid:
        return None
    if length is None:
        raise Unreachable("it does not say how long the file is, and no hash of it is known")
    if not _WHOLE.fullmatch(length):
        raise Unreachable(f"it says that the file is {length[:40]!r} bytes long")
    if not int(length):
        raise Unreachable("the file is empty")
    return int(length)


def _at_most(total: int | None, most: int | None) -> int | None:
    if total is not None and most is not None and total > most:
        raise Unreachable(f"it is {total} bytes long, of which no more than {most} are taken")
    return total


def _total_resumed(response: requests.Response, have: int) -> int:
    """Bytes of a file whose rest is sent, from byte `have` on."""
    given = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d{1,18})-\d+/(\d{1,18})", given)
    if found is None or int(found[1]) != have:
        raise Unreachable(
            f"asked for byte {have} and all after it, the server sends {given[:80]!r}"
        )
    return int(found[2])


def _check_status(response: requests.Response) -> None:
    code = response.status_code
    if code >= 500 or code in (requests.codes.request_timeout, requests.codes.too_many_requests):
        raise _Interrupted(f"HTTP {code} {response.reason}")
    if code >= 400:
        raise Unreachable(f"HTTP {code} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise Unreachable("it answered with a web page instead of the file")


def _save(
    response: requests.Response, part: Path, start: int, total: int | None, most: int | None
) -> None:
    size, most = start, most if total is None else total
    with append_to(part) as file, _bar(part, start, total) as bar:
        for chunk in response.iter_content(PIECE):
            size += len(chunk)
            if most is not None and size > most:
                drop(part)
                raise Unreachable(f"it sends more than {most} bytes")
            file.write(chunk)
            bar.update(len(chunk))


def _bar(part: Path, start: int, total: int | None) -> "tqdm[NoReturn]":
    name = part.name.removesuffix(".part")
    return tqdm(initial=start, total=total, desc=name, unit="B", unit_scale=True, disable=None)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def drop(part: Path) -> None:
    """Forget what was transferred."""
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def place(part: Path, target: Path) -> None:
    """Give what was transferred and checked its name."""
    part.replace(target)
    _version_file(part).unlink(missing_ok=True)

"""Archives: found in a mirror or downloaded, and checked against their hash before any use."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
from tqdm import tqdm

from cp2.data.hashing import CHUNK, digest, verify
from cp2.errors import UserError, WrongFile
from cp2.record.files import write_text
from cp2.settings.datasets import Archive

SUMS = "SHA256SUMS"
ATTEMPTS = 5  # in a row without a single new byte
BACKOFF = 1.0  # seconds before the second attempt, doubled each time
TIMEOUT = (20, 60)  # seconds to connect, seconds without a byte
PIECE = 1 << 16  # bytes; what a broken connection can lose at most


class _Unreachable(Exception):
    """One URL gave nothing; another may."""


class _Interrupted(Exception):
    """The transfer broke off; trying again may help."""


def fetch(archive: Archive, folder: Path, mirrors: Sequence[Path] = ()) -> Path:
    """Return the path of a checked archive.

    Looked for in this order: `folder`, each mirror (used in place, never written to), the URLs
    (downloaded into `folder`, resumed from `<file>.part`). Where no hash is published, the SHA-256
    of the first use is kept in `<folder>/<file>.sha256` and later uses are held to it.

    Raises:
        UserError: the file is nowhere and cannot be downloaded.
        WrongFile: the file has another hash.
    """
    for place in (folder, *mirrors):
        found = place / archive.file
        if found.is_file() and not (place == folder and _outdated(archive, folder)):
            remedy = f"delete {found} and start again, or put a good copy in its place"
            expected = _expected_local(archive, place, folder)
            verify(found, expected, remedy + _if_replaced(archive, folder))
            _keep_digest(archive, found, folder)
            return found
    if not archive.urls:
        raise UserError(_how_to_get(archive, folder, mirrors))
    return _download(archive, folder, mirrors)


def used_hash(archive: Archive, folder: Path) -> str:
    """The hash that a fetched archive was held to: as published, or as kept in `folder`."""
    if archive.hash not in ("sums", None):
        return archive.hash
    return f"sha256:{_digest_file(archive, folder).read_text().split()[0]}"


# ---- what the hash should be ----


def _expected_local(archive: Archive, place: Path, folder: Path) -> str | None:
    if archive.hash not in ("sums", None):
        return archive.hash
    if archive.hash == "sums" and (place / SUMS).is_file():
        return _from_sums((place / SUMS).read_text(), archive.file, str(place / SUMS))
    record = _digest_file(archive, folder)
    return f"sha256:{record.read_text().split()[0]}" if record.is_file() else None


def _expected_remote(archive: Archive, url: str, folder: Path) -> str | None:
    if archive.hash != "sums":
        return _expected_local(archive, folder, folder)
    sums_url = url.rsplit("/", 1)[0] + f"/{SUMS}"
    sums = folder / f".{archive.file}.{SUMS}"
    sums.unlink(missing_ok=True)
    try:
        _transfer(sums_url, sums)
        return _from_sums(sums.read_text(), archive.file, sums_url)
    finally:
        sums.unlink(missing_ok=True)


def _outdated(archive: Archive, folder: Path) -> bool:
    """Whether the file beside SHA256SUMS has changed since the download; if so, forget that one."""
    record = _digest_file(archive, folder)
    if archive.hash != "sums" or not archive.urls or not record.is_file():
        return False
    try:
        now = _expected_remote(archive, archive.urls[0], folder)
    except _Unreachable:
        return False
    if now == used_hash(archive, folder):
        return False
    record.unlink()
    (folder / archive.file).unlink()
    return True


def _from_sums(text: str, file: str, where: str) -> str:
    for line in text.splitlines():
        digits, _, name = line.strip().partition(" ")
        if name.strip().lstrip("*") == file:
            return f"sha256:{digits}"
    raise WrongFile(f"{where} has no line for {file}; make it again with: sha256sum * > {SUMS}")


def _digest_file(archive: Archive, folder: Path) -> Path:
    return folder / f"{archive.file}.sha256"


def _if_replaced(archive: Archive, folder: Path) -> str:
    """What else to do where no hash is published: the file may be a new one on purpose."""
    record = _digest_file(archive, folder)
    if archive.hash is not None or not record.is_file():
        return ""
    return (
        f". If its owner replaced it and you want the new one, delete {record}, which holds the "
        "hash of the first use"
    )


def _keep_digest(archive: Archive, found: Path, folder: Path) -> None:
    record = _digest_file(archive, folder)
    if archive.hash in ("sums", None) and not record.is_file():
        write_text(record, f"{digest(found, 'sha256')}  {archive.file}\n")


# ---- getting the bytes ----


def _download(archive: Archive, folder: Path, mirrors: Sequence[Path]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / archive.file
    part = folder / f"{archive.file}.part"
    failures: list[str] = []
    wrong: WrongFile | None = None
    for url in archive.urls:
        try:
            expected = _expected_remote(archive, url, folder)
            _transfer(url, part)
            remedy = f"the download from {url} was deleted; try again later"
            verify(part, expected, remedy + _if_replaced(archive, folder))
        except _Unreachable as error:
            failures.append(f"{url}: {error}")
            continue
        except WrongFile as error:
            part.unlink(missing_ok=True)
            wrong = error
            continue
        part.replace(target)
        _keep_digest(archive, target, folder)
        return target
    if wrong is not None:
        raise wrong
    raise UserError(
        # One line, because the last line of an error is what a run's record and its cells show.
        f"cannot download {archive.file} ({'; '.join(failures)}). Check the network and start "
        f"again, or put the file into {_place(folder, mirrors)} by hand."
        + (f" {archive.manual.strip()}" if archive.manual else "")
    )


def _transfer(url: str, part: Path) -> None:
    """Bring a URL's content into `part`, going on behind the bytes already there."""
    scheme = urlsplit(url).scheme
    if scheme == "file":
        as_written = Path(url.removeprefix("file://"))  # a path may hold % or # as they are
        _copy(as_written if as_written.is_file() else _from_uri(url), part)
        return None
    if scheme not in ("http", "https"):
        raise UserError(f"cannot download {url}: only file://, http:// and https:// are known")
    attempt = 0
    while True:
        before = _size(part)
        try:
            return _request(url, part)
        except _Interrupted as error:
            attempt = 1 if _size(part) > before else attempt + 1
            if attempt >= ATTEMPTS:
                raise _Unreachable(f"{error} ({ATTEMPTS} attempts)") from error
            time.sleep(BACKOFF * 2 ** (attempt - 1))


def _from_uri(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def _copy(source: Path, part: Path) -> None:
    if not source.is_file():
        raise _Unreachable("no such file")
    total = source.stat().st_size
    with source.open("rb") as reader, part.open("wb") as writer, _bar(part, 0, total) as bar:
        while chunk := reader.read(CHUNK):
            writer.write(chunk)
            bar.update(len(chunk))


def _request(url: str, part: Path) -> None:
    have = _size(part)
    # identity: a server that compresses on the fly would make sizes and ranges meaningless
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                if response.headers.get("Content-Range") == f"bytes */{have}":
                    return  # everything was there already
                part.unlink()
                raise _Interrupted("the server's file is shorter than the part that was here")
            _check_status(response)
            resumed = _resumes(response, have)
            length = response.headers.get("Content-Length")
            total = int(length) + (have if resumed else 0) if length else None
            _save(response, part, "ab" if resumed else "wb", have if resumed else 0, total)
    except requests.RequestException as error:
        raise _Interrupted(f"{type(error).__name__}: {error}") from error
    if total is not None and _size(part) != total:
        raise _Interrupted(f"got {_size(part)} of {total} bytes")


def _resumes(response: requests.Response, have: int) -> bool:
    """Whether the answer goes on at byte `have`; a server may also send everything again."""
    if response.status_code != requests.codes.partial_content:
        return False
    start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    if start != str(have):
        raise _Unreachable(f"asked for byte {have}, the server answered from byte {start!r}")
    return True


def _check_status(response: requests.Response) -> None:
    code = response.status_code
    if code >= 500 or code in (requests.codes.request_timeout, requests.codes.too_many_requests):
        raise _Interrupted(f"HTTP {code} {response.reason}")
    if code >= 400:
        raise _Unreachable(f"HTTP {code} {response.reason}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise _Unreachable("it answered with a web page instead of the file")


def _save(
    response: requests.Response,
    part: Path,
    mode: Literal["ab", "wb"],
    start: int,
    total: int | None,
) -> None:
    with part.open(mode) as file, _bar(part, start, total) as bar:
        for chunk in response.iter_content(PIECE):
            file.write(chunk)
            bar.update(len(chunk))


def _bar(part: Path, start: int, total: int | None) -> "tqdm[NoReturn]":
    name = part.name.removesuffix(".part")
    return tqdm(initial=start, total=total, desc=name, unit="B", unit_scale=True, disable=None)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


# ---- what the user can do ----


def _place(folder: Path, mirrors: Sequence[Path]) -> Path:
    return mirrors[0] if mirrors else folder


def _how_to_get(archive: Archive, folder: Path, mirrors: Sequence[Path]) -> str:
    how = archive.manual or "It has no public URL."
    looked = ", ".join(str(place) for place in (*mirrors, folder))
    return (
        f"{archive.file} is missing and cannot be downloaded without you (looked in: {looked}).\n"
        f"{how.strip()} Then put it here: {_place(folder, mirrors) / archive.file}"
    )

"""Archives: found in a mirror or downloaded, and checked against their hash before any use."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

from cp2.data.hashing import digest, verify
from cp2.data.transfer import Unreachable, drop, place, transfer
from cp2.errors import PassingError, UserError, WrongFile, reading
from cp2.record.files import write_text
from cp2.redaction import plain_urls
from cp2.settings.datasets import Archive

SUMS = "SHA256SUMS"
_SHA256 = re.compile("[0-9a-f]{64}")
_BSD = re.compile(r"^SHA(?:2-)?256 ?\((.*)\) ?= (\w+)$")  # and OpenSSL's
_SUMS_BYTES = 1 << 20  # of SHA256SUMS at most: some 10,000 files
_WEAK = 32  # hex digits; a file can be made to match fewer


def fetch(archive: Archive, folder: Path, mirrors: Sequence[Path] = ()) -> Path:
    """Return the path of a checked archive.

    Looked for in this order: `folder`, each mirror (used in place, never written to), the URLs
    (downloaded into `folder`, resumed from `<file>.part`). Where no hash is published, or only a
    beginning of one, the SHA-256 of the first use is kept in `<folder>/<file>.sha256`, which is
    said, and later uses are held to it.

    Raises:
        UserError: the file is nowhere and cannot be downloaded.
        WrongFile: the file has another hash, or what is no file has its name.
    """
    _check_names(archive, folder)
    recorded = _recorded(archive, folder)
    for where in (folder, *mirrors):
        found = where / archive.file
        if found.is_file() and not (where == folder and _outdated(archive, folder)):
            remedy = f"delete {found} and start again, or put a good copy in its place"
            expected = _expected_local(archive, where, folder)
            _verify(archive, found, expected, recorded, remedy + _if_replaced(archive, folder))
            _keep_digest(archive, found, folder)
            return found
    if not archive.urls:
        raise UserError(_how_to_get(archive, folder, mirrors))
    return _download(archive, folder, mirrors, recorded)


def used_hash(archive: Archive, folder: Path) -> str:
    """The hash that a fetched archive was held to: as published, or as kept in `folder`."""
    used = _published(archive) or _recorded(archive, folder)
    assert used is not None, f"{archive.file} was not fetched"
    return used


def _check_names(archive: Archive, folder: Path) -> None:
    names = (archive.file + end for end in ("", ".part", ".part.version", ".sha256"))
    for path in (folder / name for name in (*names, _sums_name(archive))):
        if path.exists() and not path.is_file():
            raise WrongFile(f"{path}: is a folder or a device, must be a file; move it away")


# ---- what the hash should be ----


def _verify(
    archive: Archive, path: Path, expected: str | None, recorded: str | None, remedy: str
) -> None:
    verify(path, expected, remedy)
    if _is_weak(archive):
        verify(path, recorded, remedy)


def _published(archive: Archive) -> str | None:
    """The hash that the settings hold."""
    return None if archive.hash == "sums" else archive.hash


def _is_weak(archive: Archive) -> bool:
    """Whether a file can be made to have the published hash, because only its beginning is."""
    published = _published(archive)
    return published is not None and len(published.partition(":")[2]) < _WEAK


def _expected_local(archive: Archive, where: Path, folder: Path) -> str | None:
    if archive.hash == "sums" and (where / SUMS).is_file():
        return _from_sums(where / SUMS, archive.file, str(where / SUMS))
    return _published(archive) or _recorded(archive, folder)


def _expected_remote(archive: Archive, url: str, folder: Path) -> str | None:
    if archive.hash != "sums":
        return _expected_local(archive, folder, folder)
    sums_url = url.rsplit("/", 1)[0] + f"/{SUMS}"
    sums = folder / _sums_name(archive)
    sums.unlink(missing_ok=True)
    try:
        transfer(sums_url, sums, most=_SUMS_BYTES)
        return _from_sums(sums, archive.file, plain_urls(sums_url))
    finally:
        drop(sums)


def _outdated(archive: Archive, folder: Path) -> bool:
    """Whether the file beside SHA256SUMS has changed since the download; if so, forget that one."""
    record = _digest_file(archive, folder)
    if archive.hash != "sums" or not archive.urls or not record.is_file():
        return False
    try:
        now = _expected_remote(archive, archive.urls[0], folder)
    except Unreachable:
        return False
    if now == used_hash(archive, folder):
        return False
    record.unlink()
    (folder / archive.file).unlink()
    return True


def _sums_name(archive: Archive) -> str:
    return f".{archive.file}.{SUMS}"


def _from_sums(sums: Path, file: str, where: str) -> str:
    """The hash of a file in a SHA256SUMS, as `sha256sum ./*`, BSD, OpenSSL and Windows write it."""
    again = f"make it again with: sha256sum * > {SUMS}"
    content = _beginning(sums, _SUMS_BYTES + 1, again)
    if len(content) > _SUMS_BYTES:
        raise WrongFile(f"{where} is larger than {_SUMS_BYTES} bytes; {again}")
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for line in content.decode("utf-16" if wide else "utf-8-sig", errors="replace").splitlines():
        digits, _, name = _BSD.sub(r"\2 \1", line.strip()).partition(" ")
        named = name.strip().removeprefix("*").removeprefix("./") == file
        if named and _SHA256.fullmatch(digits.lower()):
            return f"sha256:{digits.lower()}"
    raise WrongFile(f"{where} has no line for {file}; {again}")


def _beginning(path: Path, size: int, advice: str) -> bytes:
    with reading(path, "a list of SHA-256 digests", advice), path.open("rb") as file:
        return file.read(size)


def _recorded(archive: Archive, folder: Path) -> str | None:
    """The hash of the first use.

    Raises:
        WrongFile: the record is damaged.
    """
    record = _digest_file(archive, folder)
    if not record.is_file():
        return None
    advice = "compare the file with its source, then delete the record"
    head = _beginning(record, 66, advice).decode("ascii", errors="replace")
    digits = (head.lower().split() or [""])[0]
    if not _SHA256.fullmatch(digits):
        raise WrongFile(
            f"{record}: must begin with the 64 hex digits of the SHA-256 that {archive.file} had "
            f"when it was first used; {advice}"
        )
    return f"sha256:{digits}"


def _digest_file(archive: Archive, folder: Path) -> Path:
    return folder / f"{archive.file}.sha256"


def _if_replaced(archive: Archive, folder: Path) -> str:
    """What else to do where no hash is published: the file may be a new one on purpose."""
    record = _digest_file(archive, folder)
    if not (archive.hash is None or _is_weak(archive)) or not record.is_file():
        return ""
    return (
        f". If its owner replaced it and you want the new one, delete {record}, which holds the "
        "hash of the first use"
    )


def _keep_digest(archive: Archive, found: Path, folder: Path) -> None:
    """Record the hash of the first use, or of one whose record was deleted."""
    record = _digest_file(archive, folder)
    if record.is_file() or not (_published(archive) is None or _is_weak(archive)):
        return
    sha256 = digest(found, "sha256")
    write_text(record, f"{sha256}  {archive.file}\n")
    if archive.hash != "sums":
        bits = 4 * len((archive.hash or ":").partition(":")[2])
        what = f"only {bits} bits of its hash are published" if bits else "no hash is published"
        print(
            f"{archive.file}: {what}, which is no protection against a file made to deceive, and "
            f"no earlier use is recorded. From now on it is held to sha256:{sha256}, as {record} "
            "says; compare it with another source's"
        )


# ---- getting the bytes ----


def _download(
    archive: Archive, folder: Path, mirrors: Sequence[Path], recorded: str | None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / archive.file
    part = folder / f"{archive.file}.part"
    failures: list[str] = []
    kind = UserError
    wrong: WrongFile | None = None
    for url in archive.urls:
        try:
            expected = _expected_remote(archive, url, folder)
            transfer(url, part, known=expected is not None)
            remedy = f"the download from {plain_urls(url)} was deleted; try again later"
            _verify(archive, part, expected, recorded, remedy + _if_replaced(archive, folder))
        except Unreachable as error:
            failures.append(f"{plain_urls(url)}: {plain_urls(str(error))}")
            kind = PassingError if error.__cause__ else kind  # the network, and not the address
            continue
        except WrongFile as error:
            drop(part)
            wrong = error
            continue
        place(part, target)
        _keep_digest(archive, target, folder)
        return target
    if wrong is not None:
        raise wrong
    raise kind(
        # One line, because the last line of an error is what a run's record and its cells show.
        f"cannot download {archive.file} ({'; '.join(failures)}). Check the network and start "
        f"again, or put the file into {_where_to_put(folder, mirrors)} by hand."
        + (f" {archive.manual.strip()}" if archive.manual else "")
    )


# ---- what the user can do ----


def _where_to_put(folder: Path, mirrors: Sequence[Path]) -> Path:
    return mirrors[0] if mirrors else folder


def _how_to_get(archive: Archive, folder: Path, mirrors: Sequence[Path]) -> str:
    how = archive.manual or "It has no public URL."
    looked = ", ".join(map(str, (*mirrors, folder)))
    return (
        f"{archive.file} is missing and cannot be downloaded without you (looked in: {looked}).\n"
        f"{how.strip()} Then put it here: {_where_to_put(folder, mirrors) / archive.file}"
    )

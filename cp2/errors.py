"""The one exception that is shown to the user as a message instead of a traceback."""

import errno
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cp2.redaction import plain_urls

# Of a disk, a file system or a machine: other than a wrong path they may be over the next time.
_PASSING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS, errno.ETIMEDOUT),
    *(errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EBUSY),
}
_SHOWN = 200  # characters of another library's error
_STEERING = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_HEAD = 512  # bytes of a file, from which a web page and a pointer are known


class UserError(Exception):
    """Something the user can mend: bad settings, a bad file, a missing archive, a full disk.

    The text says what was found, where (file and key), what is allowed and what to do. The command
    line prints it without a traceback and exits with code 2. URLs are shown without passwords;
    what steers a terminal, as names in a foreign file may, is shown as "?".
    """

    def __str__(self) -> str:
        return _STEERING.sub("?", plain_urls(super().__str__()))


class PassingError(UserError):
    """What another attempt may not meet: a node without its GPU, a network that is down."""


class WrongFile(UserError):
    """A file is not what it should be: wrong hash, truncated, corrupt, or of another layout."""


def may_pass(error: BaseException) -> bool:
    """Whether another attempt is worth it, which no user's error is but for want of a machine's."""
    if not isinstance(error, UserError) or isinstance(error, PassingError):
        return True
    cause = error.__cause__
    return cause is not None and (
        (isinstance(cause, OSError) and cause.errno in _PASSING)
        or (isinstance(cause, UserError) and may_pass(cause))
        or "No space left on device" in str(cause)  # wrapped by torch and safetensors
    )


@contextmanager
def reading(path: Path, what: str, advice: str, missing: str = "") -> Iterator[None]:
    """Turn whatever a reader raises about a file into one line that names it.

    Args:
        path: the file.
        what: what it should be, with its article: "a whole zip archive".
        advice: what to do where its content is wrong.
        missing: what to do where it is not there.

    Raises:
        WrongFile: it is missing, may not be read, or anything was raised inside. A UserError from
            inside passes as it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged or hostile file can make a library raise anything
        raise WrongFile(f"{path}: {_why(path, error, what, advice, missing)}") from error


def _why(path: Path, error: Exception, what: str, advice: str, missing: str) -> str:
    """Looks at the file again: libraries tell one that may not be read from a cut one badly."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        return f"is not there; {missing or advice}"
    except NotADirectoryError:  # the path leads into an archive
        head = b"member"
    except (OSError, ValueError) as problem:
        return _unreadable(problem)
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.ENOENT):
        return _unreadable(error)
    if not head:
        return f"is empty, must be {what}; {advice}"
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html", b"<head")):
        return f"is a web page, as a link to a download page gives, not {what}; {advice}"
    if head.startswith(b"version https://git-lfs"):
        return f"is only a git-lfs pointer to {what}; run `git lfs pull` where it came from"
    return f"is not {what} ({said(error)}); {advice}"


def check_method(member: zipfile.ZipInfo) -> None:
    """Raise ValueError where Python would unpack a zip's member without bound: bzip2, LZMA."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is neither stored nor deflated; pack it again so")


def _unreadable(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "may not be read by this user; ask its owner for permission (chmod g+r, or o+r)"
    return f"cannot be read: {getattr(error, 'strerror', None) or said(error)}"


def said(error: BaseException) -> str:
    """The beginning of a foreign error in one line; its kind where it says nothing."""
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return (" ".join(str(error).split()) or type(error).__name__)[:_SHOWN]

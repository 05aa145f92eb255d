"""What all settings have in common: no unknown keys, no silent conversions, no later changes."""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

NAME = r"^[a-z0-9][a-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME)]
# A file's name in a folder that this project chooses: it leads nowhere else.
FILE_NAME = r"^[^/\\\p{Cc}\p{Cf}\p{Zl}\p{Zp}.~-][^/\\\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$"
_RESERVED = re.compile(r"SHA256SUMS|.*\.(sha256|part|part\.version)", re.IGNORECASE)


def _free(name: str) -> str:
    if len(name.encode()) > 200:  # of 255; the rest is for endings such as .part
        raise ValueError(f"{name[:40]!r}...: a file name must have no more than 200 bytes")
    if _RESERVED.fullmatch(name):
        raise ValueError(
            f"{name!r}: a file name must not be SHA256SUMS or end with .part, .part.version or "
            ".sha256, which are kept beside downloads"
        )
    return name


FileName = Annotated[str, Field(pattern=FILE_NAME), AfterValidator(_free)]
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
PositiveInt = Annotated[int, Field(ge=1, lt=2**31)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Size = tuple[PositiveInt, PositiveInt]  # height, width in pixels
CropSide = Annotated[int, Field(ge=8, le=8192)]  # pixels; a batch of larger crops fits nowhere
GPU_SLOTS = 12  # of one GPU: jobs take whole slots, and 12 is divided by 2, 3, 4 and 6
JobsPerGpu = Literal[1, 2, 3, 4, 6, 12]
GroupSize = Annotated[int, Field(ge=2)]  # batch norm needs two images


def _pair(holds: Callable[[float, float], bool], wrong: str) -> AfterValidator:
    """A check of two numbers, and what is said of those that do not pass it."""

    def check(pair: tuple[float, float]) -> tuple[float, float]:
        if not holds(*pair):
            raise ValueError(wrong.format(list(pair)))
        return pair

    return AfterValidator(check)


Range = Annotated[
    tuple[float, float],
    _pair(lambda a, b: a <= b, "runs backwards: {}; write [smallest, largest]"),
]
PositiveRange = Annotated[Range, _pair(lambda a, _: a > 0, "must be above 0: {}")]
AreaRange = Annotated[
    Range, _pair(lambda a, b: a >= 0 and 0 < b <= 1, "must be shares of the image, at most 1: {}")
]
NonNegativeRange = Annotated[Range, _pair(lambda a, _: a >= 0, "must not be negative: {}")]


def expanded(text: str) -> str:
    """A path with `~` and `$NAME` written out, as a shell does.

    Raises:
        ValueError: it is empty, too long, a URL or has a line break, a user is unknown or a
            variable not set.
    """
    found = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111
    if not found.strip() or re.search(r"[\x00-\x1f\x7f]", found):
        raise ValueError(f"{text!r} is no path: it is empty or holds a line break; write another")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", found):
        raise ValueError(f"{text!r} is a URL, not a path; fetch it and write where it lies")
    if len(os.fsencode(found)) > 4095 or any(len(os.fsencode(p)) > 255 for p in found.split("/")):
        raise ValueError(f"'{text[:80]}...' is longer than a path or a name in it can be")
    unset = re.match(r"~[^/]*|.*?\$(\w+|\{[^}]*\})[^/]*", found)
    if unset and not Path(unset[0]).exists():  # else a folder really has this name
        raise ValueError(f"{text!r}: no such user or $ variable; write the whole path")
    return found


def _without_wildcards(text: str) -> str:
    if re.search(r"[{}]", text):
        raise ValueError(f"{text!r}: braces are wildcards to Snakemake; take another name")
    return text


FolderPath = Annotated[str, AfterValidator(expanded)]
OutputFolder = Annotated[FolderPath, AfterValidator(_without_wildcards)]


def check_groups(batch_size: int, group_size: int | None) -> None:
    """A batch is one group of batch norm, or whole groups.

    Raises:
        ValueError: the last group would be smaller.
    """
    if group_size and batch_size > group_size and batch_size % group_size:
        raise ValueError(
            f"batch_size {batch_size} is no multiple of bn_group_size {group_size}; choose another "
            "of either, or bn_group_size: null for one group"
        )


class Settings(BaseModel):
    """Base of every settings model.

    Validate YAML content with `model_validate_json`: JSON arrays become tuples there, although the
    models are strict.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


def unhashed(default: Any = ..., **kwargs: Any) -> Any:
    """A field that cannot change a run's numbers (a place, a title) and so stays out of run ids."""
    return Field(default, json_schema_extra={"hashed": False}, **kwargs)


def added(default: Any, **kwargs: Any) -> Any:
    """A field added later: at its default it stays out of run ids, so that older results count."""
    return Field(default, json_schema_extra={"hashed": "unless default"}, **kwargs)


def hashed_fields(settings: BaseModel) -> dict[str, Any]:
    """The settings as plain JSON values that run ids are made of; see `unhashed` and `added`."""
    fields: dict[str, Any] = {}
    for name, is_added, default in _hashed(type(settings)):
        value = getattr(settings, name)
        if not (is_added and value == default):
            fields[name] = _plain(value)
    return fields


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All that is no mapping in a tree of settings, by its keys with dots between."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree


@cache
def _hashed(kind: type[BaseModel]) -> list[tuple[str, bool, Any]]:
    """Name, whether it is `added`, and default of each field that is not `unhashed`."""
    found = []
    for name, info in kind.model_fields.items():
        extra = info.json_schema_extra
        rule = extra.get("hashed") if isinstance(extra, dict) else None
        if rule is not False:
            found.append((name, rule == "unless default", info.default))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, float, type(None))):
        return value
    if isinstance(value, BaseModel):
        return hashed_fields(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def same_name(text: str) -> str:
    """What names are compared by: Unicode's composed form (NFC), no spaces around."""
    return unicodedata.normalize("NFC", text).strip()

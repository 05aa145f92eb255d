"""Turning validation errors into: file, key, what was found, what is allowed, nearest name."""

import difflib
import json
import typing
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from cp2.errors import UserError
from cp2.settings.base import FILE_NAME, NAME
from cp2.settings.yaml_files import Key, kind_of

_SHOWN = 40  # names that an error text lists
_KEY = "[key]"  # pydantic's mark for an error of a mapping's key, not of its value


# Says where a key got its value, as the beginning of a line: "file: " or "--set ...: ".
Origin = Callable[[Key], str]


def nearest(name: str, known: Iterable[str]) -> str:
    """ "did you mean 'x'?" and the list of what exists, to end an error text."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listing = ", ".join(known[:_SHOWN]) or "none"
    if more := len(known[_SHOWN:]):
        listing += f" and {more} more"
    return f"did you mean {close[0]!r}? allowed: {listing}" if close else f"allowed: {listing}"


def validated(model: Any, tree: Any, origin: Origin | str, advice: str = "") -> Any:
    """The tree as a settings model, or as any type that pydantic knows.

    Args:
        origin: text: the beginning of every line.
    Raises:
        UserError: a line for each thing that is wrong, then the advice.
    """
    try:
        return TypeAdapter(model).validate_json(json.dumps(tree))
    except ValidationError as error:
        where = (lambda key: origin) if isinstance(origin, str) else origin
        raise UserError(explain(error, model, tree, where) + advice) from None


def explain(error: ValidationError, model: Any, tree: Any, origin: Origin) -> str:
    """One line an error: `file: key = value: what is wrong; what is allowed`."""
    lines = []
    for item in _first_causes(error.errors(include_url=False)):
        key = _path_in_tree(item["loc"], tree, missing=item["type"] == "missing")
        if item["type"].startswith("union_tag"):  # pydantic points at the union, not at its tag
            key = (*key, item["ctx"]["discriminator"].strip("'()"))
        place = ".".join(key) or "(top level)"
        lines.append(f"{origin(key)}{place}{_shown(item)}: {_reason(item, model)}")
    return "\n".join(dict.fromkeys(lines))


def _first_causes(errors: list[Any]) -> list[Any]:
    """Without what only follows from another error: a list's length after its items failed, the
    value of a key that must not be there."""
    places = [item["loc"] for item in errors]
    bad_keys = {item["loc"][:-1] for item in errors if item["loc"][-1:] == (_KEY,)}

    def follows(item: Any) -> bool:
        place = item["loc"]
        if place[-1:] != (_KEY,) and any(place[: len(key)] == key for key in bad_keys):
            return True
        return item["type"] == "too_short" and any(
            len(other) > len(place) and other[: len(place)] == place for other in places
        )

    return [item for item in errors if not follows(item)]


def _path_in_tree(loc: tuple[int | str, ...], tree: Any, missing: bool) -> Key:
    """pydantic's location without the union tags that are not keys of the YAML."""
    key: list[str] = []
    node = tree
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(node, dict):
            found = next((k for k in node if str(k) == str(part)), None)
            if found is None:
                if last and missing:  # a missing key has no place in the tree yet
                    key.append(str(part))
                continue
            node = node[found]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            continue
        key.append(str(part))
    return tuple(key)


def _shown(item: Any) -> str:
    value = item.get("ctx", {}).get("tag", item["input"])
    absent = item["type"] in ("missing", "union_tag_not_found") or item["loc"][-1:] == (_KEY,)
    return "" if absent or isinstance(value, (dict, list)) else f" = {value!r}"


def _reason(item: Any, model: Any) -> str:
    kind, loc, context = item["type"], item["loc"], item.get("ctx", {})
    found = kind_of(item["input"])
    what = "key must" if loc[-1:] == (_KEY,) else "must"
    match kind:
        case "extra_forbidden":
            return f"unknown key; {nearest(str(loc[-1]), _fields_at(model, loc[:-1]))}"
        case "missing" if isinstance(loc[-1], int):
            return f"needs {loc[-1] + 1} items"
        case "missing" | "union_tag_not_found":
            return "is missing and has no default"
        case "too_short":
            return (
                f"needs at least {context['min_length']} item(s), found {context['actual_length']}"
            )
        case "too_long":
            return f"takes at most {context['max_length']} item(s)"
        case "literal_error" | "union_tag_invalid":
            allowed = str(context.get("expected") or context.get("expected_tags"))
            names = [name.strip(" '") for name in allowed.replace(" or ", ",").split(",")]
            given = str(context.get("tag") or item["input"])
            choice = nearest(given, [name for name in names if name])
            return f"unknown key; {choice}" if loc[-1:] == (_KEY,) else choice
        case "float_type" | "float_parsing":
            return f"{what} be a number, found {found}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"{what} be a whole number, found {found}"
        case "bool_type":
            return f"{what} be true or false, found {found}"
        case "string_type":
            return f"{what} be text, found {found}; quote it if text is meant"
        case "tuple_type" | "list_type":
            return f"{what} be a list, found {found}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{what} be keys and values, found {found}"
        case "string_pattern_mismatch" if context["pattern"] == NAME:
            return f"{what} be lower-case letters, digits and . _ - (first a letter or a digit)"
        case "string_pattern_mismatch" if context["pattern"] == FILE_NAME:
            return f"{what} be a plain file name: no folder, nothing unseen, no . ~ - at its start"
        case "string_pattern_mismatch":
            return f"{what} match {context['pattern']}"
    message = str(item["msg"]).removeprefix("Value error, ")
    if message.startswith("Input should"):
        return message.replace("Input should", what, 1)
    return message


def _fields_at(model: Any, loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields of the model that a location points into."""
    candidates = _models_in(model)
    for part in loc:
        deeper: list[type[BaseModel]] = []
        tagged = [m for m in candidates if _has_tag(m, part)]
        if tagged and not any(part in m.model_fields for m in candidates):
            candidates = tagged
            continue
        for candidate in candidates:
            field = candidate.model_fields.get(str(part))
            if field is not None:
                deeper += _models_in(field.annotation)
        candidates = deeper or candidates
    return sorted({name for m in candidates for name in m.model_fields})


def _has_tag(model: type[BaseModel], part: Any) -> bool:
    return any(
        part in typing.get_args(field.annotation)
        for name, field in model.model_fields.items()
        if name in ("kind", "family")
    )


def has_kind(model: Any, kind: Any) -> bool:
    """Whether one of a union's classes is of this kind."""
    return any(_has_tag(one, kind) for one in _models_in(model))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in typing.get_args(annotation) for m in _models_in(argument)]

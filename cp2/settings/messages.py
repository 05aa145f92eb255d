"""Turning validation errors into: file, key, what was found, what is allowed, nearest name."""

import difflib
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from cp2.settings.yaml_files import Key


def nearest(name: str, known: Iterable[str]) -> str:
    """ " — did you mean 'x'?" or the list of what exists, to end an error text."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listing = ", ".join(known) or "none"
    return f"did you mean {close[0]!r}? allowed: {listing}" if close else f"allowed: {listing}"


def explain(error: ValidationError, model: Any, tree: Any, origin: "Origin") -> str:
    """One line an error: `file: key = value: what is wrong; what is allowed`."""
    lines = []
    for item in error.errors(include_url=False):
        key = _path_in_tree(item["loc"], tree)
        place = ".".join(key) or "(top level)"
        value = _at(tree, key)
        lines.append(f"{origin(key)}: {place}{_shown(item, value)}: {_reason(item, model, key)}")
    return "\n".join(dict.fromkeys(lines))


class Origin(typing.Protocol):
    """Says which file (or command-line setting) gave a key its value."""

    def __call__(self, key: Key) -> str: ...


def _path_in_tree(loc: tuple[int | str, ...], tree: Any) -> Key:
    """pydantic's location without the union tags that are not keys of the YAML."""
    key: list[str] = []
    node = tree
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(node, dict):
            found = next((k for k in node if str(k) == str(part)), None)
            if found is None:
                if last:  # a missing key has no place in the tree yet
                    key.append(str(part))
                continue
            node = node[found]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            continue
        key.append(str(part))
    return tuple(key)


def _at(tree: Any, key: Key) -> Any:
    for part in key:
        if isinstance(tree, dict):
            tree = next((v for k, v in tree.items() if str(k) == part), None)
        elif isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return None
    return tree


def _shown(item: Any, value: Any) -> str:
    if item["type"] == "missing" or isinstance(value, (dict, list)):
        return ""
    return f" = {value!r}"


def _reason(item: Any, model: Any, key: Key) -> str:
    kind = item["type"]
    if kind == "extra_forbidden":
        return f"unknown key; {nearest(key[-1], _fields_at(model, item['loc'][:-1]))}"
    if kind == "missing":
        return "is missing and has no default"
    message = str(item["msg"]).removeprefix("Value error, ")
    if kind in ("float_type", "int_type", "float_parsing", "int_parsing"):
        return f"must be a number, found {type(item['input']).__name__}"
    if kind in ("literal_error", "union_tag_invalid"):
        context = item.get("ctx", {})
        allowed = str(context.get("expected") or context.get("expected_tags"))
        found = str(context.get("tag") or item["input"])
        names = [n.strip(" '") for n in allowed.replace(" or ", ",").split(",")]
        return nearest(found, [n for n in names if n])
    return message[0].lower() + message[1:]


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


def _has_tag(model: type[BaseModel], part: int | str) -> bool:
    return any(
        part in typing.get_args(field.annotation)
        for name, field in model.model_fields.items()
        if name in ("kind", "family")
    )


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in typing.get_args(annotation) for m in _models_in(argument)]

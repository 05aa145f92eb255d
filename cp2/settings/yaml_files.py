"""Reading YAML with the numbers people write, and joining trees while keeping their origins."""

import itertools
import re
from pathlib import Path
from typing import Any

import yaml

from cp2.errors import UserError, said

Key = tuple[str, ...]
_DEEPEST = 100  # mappings and lists in each other
_MOST_VALUES = 100_000
_BITS = 128  # of a whole number
_IMPLIED = {"mask": "rectangle"}  # kinds that need not be written
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):
    """Plain words mean what they mean in YAML 1.2: `1e-3` is a number, `off` and dates are text.

    Values are those of JSON: no sets, bytes or times, whatever a tag says.
    """


_Loader.yaml_constructors = {
    tag: make
    for tag, make in _Loader.yaml_constructors.items()
    if tag is None or tag.endswith((":null", ":bool", ":int", ":float", ":str", ":seq"))
}
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, rule) for tag, rule in rules if not tag.endswith((":bool", ":timestamp", ":value"))
    ]
    for first, rules in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)
for _first in "-+0123456789":  # 1:30 was 90 in YAML 1.1; the first rule that fits counts
    _Loader.yaml_implicit_resolvers[_first].insert(
        0, ("tag:yaml.org,2002:str", re.compile(r"^[-+]?[0-9_]+(:[0-9_]+)+(\.[0-9_]*)?$"))
    )


def kind_of(value: Any) -> str:
    """What a YAML value is, in words for error texts."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    names = {str: "text", int: "a whole number", float: "a number", list: "a list"}
    names[dict] = "keys and values"
    return names.get(type(value), type(value).__name__)


def _at(node: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _no_duplicates(loader: Any, node: Any, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":  # <<: *anchor
            continue
        key = loader.construct_object(key_node, deep=True)
        if type(key) not in (str, int):
            found = f"{kind_of(key)}; quote it" if isinstance(key, bool | float) else kind_of(key)
            raise _at(key_node, f"a key must be text or a whole number, found {found}")
        if key in seen:
            raise _at(key_node, f"key {key!r} is there twice")
        seen.add(key)
    loader.flatten_mapping(node)
    return {
        loader.construct_object(k, deep=True): loader.construct_object(v, deep=True)
        for k, v in node.value
    }


def _whole_number(loader: Any, node: Any) -> int:
    """One that can be printed: Python refuses to write out thousands of digits."""
    number: int = loader.construct_yaml_int(node)
    if number.bit_length() > _BITS:
        raise _at(node, f"a whole number has more than {_BITS} bits")
    return number


_Loader.add_constructor("tag:yaml.org,2002:map", _no_duplicates)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def _check_depth(text: str) -> None:
    """Before libyaml could overrun its stack, and whatever walks through the values Python's."""
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        starts = isinstance(event, yaml.CollectionStartEvent)
        depth += starts - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")


def _check_aliases(root: Any) -> None:
    """Values that a text stands for, aliases written out: ten lines can mean a thousand million."""
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = _MOST_VALUES  # until it is known: for one that holds itself
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            inner = itertools.chain(*parts) if isinstance(node, yaml.MappingNode) else parts
            sizes[id(node)] = 1 + sum(map(size, inner))
        return sizes[id(node)]

    if size(root) > _MOST_VALUES:
        raise yaml.YAMLError(f"with its aliases it holds over {_MOST_VALUES} values, or itself")


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML text; `where` names it in the error.

    Raises:
        UserError: it is none, nested too deeply, or its aliases stand for too much.
    """
    try:
        _check_depth(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if "*" in text:
                _check_aliases(node)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{where}: not valid YAML: {line}{error.problem}") from None
    except Exception as error:  # a number that Python refuses, nesting, what its tags do not fit
        raise UserError(f"{where}: not valid YAML: {said(error)}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error.reason})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {kind_of(content)}, expected keys and values")
    return content


def _other_kind(place: Key, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a part of some settings becomes one of another kind.

    Not the settings themselves (section and name): what they are is said by their own file.
    """
    depth = len(place) - (2 if place[:1] == ("campaign",) else 0)  # campaign.overrides
    before = old.get("kind", _IMPLIED.get(place[-1]))
    return depth > 2 and "kind" in new and before is not None and new["kind"] != before


def merge(
    base: dict[str, Any],
    changes: dict[str, Any],
    origins: dict[Key, str],
    origin: str,
    at: Key = (),
    kinds: bool = True,
) -> dict[str, Any]:
    """Join `changes` into `base`, mapping by mapping; note in `origins` who set each value.

    Args:
        kinds: settings that change to another `kind` lose the keys of the old one, which may not
            exist there. False among changes of equal rank, whose order should not matter.
    """
    merged = dict(base)
    for key, value in changes.items():
        place = (*at, str(key))
        old = merged.get(key)
        if isinstance(value, dict):
            if kinds and isinstance(old, dict) and _other_kind(place, old, value):
                for stale in [known for known in origins if known[: len(place)] == place]:
                    del origins[stale]
                old = {}
            below = old if isinstance(old, dict) else {}
            merged[key] = merge(below, value, origins, origin, place, kinds)
        else:
            merged[key] = value
            origins[place] = origin
    return merged


def assignment(text: str) -> dict[str, Any]:
    """`a.b.c=value` as a nested mapping; the value is YAML."""
    path, sign, value = text.partition("=")
    keys = path.strip().split(".")
    if not sign or not all(keys):
        raise UserError(
            f"--set {text!r}: write section.name.key=value, for example "
            "protocols.cp2.datasets.voc2012.iterations=100"
        )
    tree: Any = parse_yaml(value, f"--set {text!r}")
    for key in reversed(keys):
        tree = {key: tree}
    return dict(tree)

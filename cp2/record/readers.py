"""A run's records as others read them: whatever is wrong with one is a `WrongFile` naming it.

The report and the import into MLflow leave such a file out and go on with all others.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cp2.errors import WrongFile
from cp2.record.files import read_json

SHARES = ("miou", "accuracy", "mean_accuracy")
MAKE_AGAIN = "delete the run's folder and make it again"


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        WrongFile: it is not there, cannot be read or is something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise WrongFile(f"{path}: is {_kind(content)}, must be a JSON object; {MAKE_AGAIN}")
    return content


def read_recipe(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and tags of a recipe.json.

    Raises:
        WrongFile: either is missing, or no object.
    """
    content = read_object(path)
    for key in ("recipe", "tags"):
        if not isinstance(content.get(key), dict):
            raise _wrong(path, key, content.get(key), "an object")
    return content["recipe"], content["tags"]


def read_environment(path: Path) -> dict[str, Any]:
    """An environment.json; nothing where there is none yet.

    Raises:
        WrongFile: it is there, but no object, or a time in it is none.
    """
    if not path.is_file():
        return {}
    content = read_object(path)
    if content.get("started") is not None:
        time_of(path, content, "started")
    return content


def time_of(path: Path, content: dict[str, Any], key: str) -> float:
    """Seconds: a finite number that is not negative.

    Raises:
        WrongFile: it is missing or something else.
    """
    value = _number(content.get(key))
    if value is None or not 0 <= value < 1e11:
        raise _wrong(path, key, content.get(key), "a time in seconds")
    return value


@dataclass(frozen=True)
class Scores:
    """A scores.json: shares of one, None where no image has the class.

    Attributes:
        shares: miou, accuracy, mean_accuracy, as far as they are there.
    """

    split: str
    dataset: str
    shares: dict[str, float]
    per_class: dict[str, float | None]


def read_share(path: Path, name: str) -> float:
    """One score of a scores.json.

    Raises:
        WrongFile: it is missing, or no share of one.
    """
    return share_of(path, read_object(path), name)


def share_of(path: Path, content: dict[str, Any], name: str) -> float:
    """One score of what was read from `path`; raises as `read_share`."""
    value = _number(content.get(name))
    if value is None or not 0 <= value <= 1:
        raise WrongFile(
            f"{path}: {name}: found {content.get(name)!r}, must be a share between 0 and 1; "
            "delete the folder and evaluate again"
        )
    return value


def read_scores(path: Path) -> Scores:
    """All of a scores.json.

    Raises:
        WrongFile: a part of it is missing or of another kind.
    """
    content = read_object(path)
    for key in ("split", "dataset"):
        if not isinstance(content.get(key), str):
            raise _wrong(path, key, content.get(key), "a name")
    per_class = content.get("per_class", {})
    if not isinstance(per_class, dict):
        raise _wrong(path, "per_class", per_class, "an object")
    there = [name for name in SHARES if content.get(name) is not None]
    return Scores(
        content["split"],
        content["dataset"],
        {name: share_of(path, content, name) for name in there},
        {
            name: None if value is None else share_of(path, per_class, name)
            for name, value in per_class.items()
        },
    )


def _wrong(path: Path, key: str, value: Any, allowed: str) -> WrongFile:
    return WrongFile(f"{path}: {key}: found {value!r}, must be {allowed}; {MAKE_AGAIN}")


def _number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else repr(value)

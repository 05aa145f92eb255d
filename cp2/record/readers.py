"""A run's records as others read them: whatever is wrong with one is a `WrongFile` naming it.

The report and the import into MLflow leave such a file out and go on with all others.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cp2.errors import WrongFile
from cp2.record.files import read_json

MAKE_AGAIN = "delete the run's folder and make it again"
UNSCORED = "unscored"  # in scores.json: metrics that the data set holds nothing for


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


def check_owner(path: Path, run_id: str) -> None:
    """Refuse a folder that was copied under another run's id: its numbers are not that run's.

    Args:
        path: the folder's recipe.json.
    Raises:
        WrongFile: it is of another run, or does not say of which one.
    """
    written = read_recipe(path)[1].get("run_id")
    if written != run_id:
        raise WrongFile(
            f"{path}: is of run {written!r}, the folder is {run_id!r}'s: one is a copy of the "
            "other; remove the folder that is wrong and make the run again"
        )


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
    value = number(content.get(key))
    if value is None or not 0 <= value < 1e11:
        raise _wrong(path, key, content.get(key), "a time in seconds")
    return value


class Metric(Protocol):
    """What is asked of a metric here; `cp2.settings.metrics` says the rest."""

    @property
    def name(self) -> str: ...

    @property
    def is_share(self) -> bool: ...


@dataclass(frozen=True)
class Scores:
    """A scores.json, as stored: before a metric's scale.

    Attributes:
        values: by metric, as far as they are there.
        per_class: of one metric, shares of one; None where no image has the class.
    """

    split: str
    dataset: str
    values: dict[str, float]
    per_class: dict[str, float | None]


def read_score(path: Path, metric: Metric, run_id: str) -> float:
    """One score of a run's scores.json.

    Raises:
        WrongFile: it is missing, another run's, no number that the metric can have, or the data
            set holds nothing to score it on.
    """
    check_owner(path.with_name("recipe.json"), run_id)
    content = read_object(path)
    unscored = content.get(UNSCORED)
    if isinstance(unscored, list) and metric.name in unscored:
        raise WrongFile(
            f"{metric.name} cannot be scored: no object of the data set's split is of its size, or "
            "has a mask; take another metric for the column"
        )
    return _score(path, _values(path, content), metric)


def read_scores(path: Path, metrics: Iterable[Metric], run_id: str) -> Scores:
    """All of a run's scores.json.

    Args:
        metrics: what its protocol measures.
    Raises:
        WrongFile: it is another run's, or a part of it is missing or of another kind.
    """
    check_owner(path.with_name("recipe.json"), run_id)
    content = read_object(path)
    for key in ("split", "dataset"):
        if not isinstance(content.get(key), str):
            raise _wrong(path, key, content.get(key), "a name")
    per_class = content.get("per_class", {})
    if not isinstance(per_class, dict):
        raise _wrong(path, "per_class", per_class, "an object")
    values = _values(path, content)
    return Scores(
        content["split"],
        content["dataset"],
        {m.name: _score(path, values, m) for m in metrics if values.get(m.name) is not None},
        {
            name: None if value is None else _share(path, name, value)
            for name, value in per_class.items()
        },
    )


def _values(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Scores by metric; they lie beside the other keys in files of before `metrics`."""
    values = content.get("metrics", content)
    if not isinstance(values, dict):
        raise _wrong(path, "metrics", values, "an object")
    return values


def _score(path: Path, values: dict[str, Any], metric: Metric) -> float:
    value = values.get(metric.name)
    if metric.is_share:
        return _share(path, metric.name, value)
    score = number(value)
    if score is None:
        raise _wrong_score(path, metric.name, value, "a finite number")
    return score


def _share(path: Path, name: str, value: Any) -> float:
    share = number(value)
    if share is None or not 0 <= share <= 1:
        raise _wrong_score(path, name, value, "a share between 0 and 1")
    return share


def _wrong_score(path: Path, name: str, value: Any, allowed: str) -> WrongFile:
    return WrongFile(
        f"{path}: {name}: found {value!r}, must be {allowed}; delete the folder and evaluate again"
    )


def _wrong(path: Path, key: str, value: Any, allowed: str) -> WrongFile:
    return WrongFile(f"{path}: {key}: found {value!r}, must be {allowed}; {MAKE_AGAIN}")


def number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else repr(value)

"""Claims about the order of several rows: reports/published/orderings.yaml."""

from pathlib import Path

from pydantic import Field

from cp2.settings.base import Settings
from cp2.settings.messages import validated
from cp2.settings.yaml_files import read_mapping


class Ordering(Settings):
    """The best of `left` is above the best of `right`, in every column, or in each of `columns`.

    With `range`: the rows of `left` lie closer together than those of `right`.
    """

    table: str
    left: tuple[str, ...] = Field(min_length=1)
    right: tuple[str, ...] = Field(min_length=1)
    range: bool = False
    columns: tuple[str, ...] | None = Field(None, min_length=1)


def read_orderings(folder: Path) -> dict[str, tuple[Ordering, ...]]:
    """Claim id -> what has to be in order.

    Raises:
        UserError: the file is not there, or a key or value in it is wrong.
    """
    file = folder / "orderings.yaml"
    return validated(dict[str, tuple[Ordering, ...]], read_mapping(file), f"{file}: ")

"""What the papers' texts state: reports/published/claims.csv."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cp2.errors import WrongFile

_STATED = re.compile(r"(>=|<=|>|<|~)?([+-]?\d+(?:\.\d+)?)(%)?(?: \((?:none|approx)\))?")

# "000 L168 / 001 L149": lines of the text files that the claims were collected from.
_LINES = re.compile(r" in \d{3} L\d+(?: / \d{3} L\d+)*")
_PLACE = re.compile(r"\(([^()]*)\)\s*$")


@dataclass(frozen=True)
class Stated:
    """A stated difference or value as a relation to a number.

    Attributes:
        relation: "=" also for "~".
        percent: of what the difference is from; else points.
    """

    relation: Literal["=", ">", ">=", "<", "<="]
    number: float
    percent: bool


@dataclass(frozen=True)
class Claim:
    """One line of claims.csv."""

    id: str
    statement: str
    source: str
    delta: str
    claimed: str
    left: str  # "table|row|column", or empty
    right: str
    status: str
    note: str

    @property
    def paper(self) -> str:
        return self.id.partition("-")[0]

    @property
    def place(self) -> str:
        """ "abstract", "intro, Fig. 1": what `source` says behind its line numbers, or nothing."""
        found = _PLACE.search(self.source)
        return found[1] if found else ""

    @property
    def published(self) -> str:
        return self.delta or self.claimed

    @property
    def stated(self) -> Stated | None:
        """The statement as a relation; None where it is none ("~1/10", "AP75>AP50")."""
        found = _STATED.fullmatch(self.published.strip())
        if found is None:
            return None
        relation: Literal["=", ">", ">=", "<", "<="] = "="
        match found[1]:
            case ">" | ">=" | "<" | "<=" as side:
                relation = side
        return Stated(relation, float(found[2]), bool(found[3]))


def read_claims(folder: Path) -> list[Claim]:
    """All claims.

    Raises:
        WrongFile: claims.csv is not there or lacks a column.
    """
    path = folder / "claims.csv"
    if not path.is_file():
        raise WrongFile(f"{path}: the papers' claims are not there; put the file back")
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return [
                Claim(
                    line["id"],
                    line["statement"],
                    line["source"],
                    line["delta"],
                    line["claimed_left"],
                    line["left_ref"],
                    line["right_ref"],
                    line["status"],
                    _LINES.sub("", line["note"]),
                )
                for line in csv.DictReader(file)
            ]
        except KeyError as error:
            raise WrongFile(f"{path}: has no column {error.args[0]!r}") from None

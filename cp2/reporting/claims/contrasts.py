"""Our side of a claim: the cells that it names, and how far they lie apart."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.special import ndtr, stdtrit

from cp2.reporting.claims.read import Claim
from cp2.reporting.tables import TableView
from cp2.settings.claims import Ordering
from cp2.settings.metrics import SECONDS_PER_EPOCH
from cp2.tables.frame import CellScores
from cp2.tables.published import PUBLISHED_STD

ERRORS = 2.0  # standard errors within which numbers agree, where errors are known


@dataclass(frozen=True)
class Error:
    """A standard error, and the degrees of freedom that it was estimated with; inf: it is known."""

    value: float
    freedom: float = math.inf

    @property
    def slack(self) -> float:
        """What lies within is no difference: as likely to be left as two known standard errors.

        The quantile is Student's t (13.97 for one degree of freedom, 4.53 for two, 2 for many).
        """
        if not self.value or not math.isfinite(self.freedom):
            return ERRORS * self.value
        return float(stdtrit(self.freedom, ndtr(ERRORS))) * self.value


def combined(errors: Iterable[Error]) -> Error:
    """Of a sum or difference; degrees of freedom by Welch and Satterthwaite."""
    errors = list(errors)
    value = math.hypot(*(error.value for error in errors))
    parts = [(error.value / value) ** 4 / error.freedom for error in errors] if value else []
    return Error(value, 1 / sum(parts) if sum(parts) else math.inf)


@dataclass(frozen=True)
class Measured:
    """A difference (or a single value) of ours, with its standard error over seeds.

    Attributes:
        error: of `value`; None below two runs.
        runs: the fewest runs of any cell that it stands on.
        low, high: `value` -+ the error's slack; of an ordering, the same of its closest pair.
        theirs: of the same difference of the published numbers, in points.
        assumed: whether the paper prints no spread that `theirs` could come from.
        base: what the difference is from, for claims in percent of it.
        timed: whether it is of seconds, else of points.
        digits: that are printed, after the point.
        elsewhere: the first cell whose number is not of our runs, with whose it is.
        level: whether it is a single value and no difference.
        one_pretraining: whether runs of a cell that it stands on share their pretraining, whose
            own variance `error` then lacks.
    """

    name: str
    value: float
    error: Error | None
    runs: int
    low: float
    high: float
    theirs: Error = Error(0.0)
    assumed: bool = False
    base: float | None = None
    timed: bool = False
    digits: int = 1
    elsewhere: str | None = None
    level: bool = False
    one_pretraining: bool = False


def find_cell(views: Sequence[TableView], table: str, row: str, column: str) -> CellScores | None:
    """The cell of that published table; the first that is complete with runs of our own.

    The table of that name comes before others that show the same published table, and rows made
    from the authors' weights in such a table never stand for it.
    """
    found = [
        view.cells[row, column]
        for view in sorted(views, key=lambda view: view.name != table)
        if table in (view.name, view.settings.published) and (row, column) in view.cells
        if view.name == table or view.cells[row, column].imported != "imported weights"
    ]
    complete = [cell for cell in found if not cell.missing]
    own = [cell for cell in complete if not cell.imported]
    return next(iter((*own, *complete, *found)), None)


def contrasts(
    claim: Claim, orderings: Sequence[Ordering], views: Sequence[TableView]
) -> list[Measured | str]:
    """Our differences that settle a claim; a text in place of one that lacks a cell."""
    if orderings:
        return [one for ordering in orderings for one in _ordered(ordering, views)]
    left = [find_cell(views, *claim.left.split("|"))]
    if not claim.right:
        return [_compare("", left, None)]
    return [_compare("", left, [find_cell(views, *claim.right.split("|"))])]


def _ordered(ordering: Ordering, views: Sequence[TableView]) -> list[Measured | str]:
    """An ordering's contrast in each of its columns."""
    columns = dict.fromkeys(
        column.name
        for view in views
        if ordering.table in (view.name, view.settings.published)
        for column in view.columns
        if ordering.columns is None or column.name in ordering.columns
    )
    if not columns:
        return [f"table {ordering.table} or its columns are not in this campaign"]
    compare = _range if ordering.range else _compare
    return [
        compare(
            column,
            [find_cell(views, ordering.table, row, column) for row in ordering.left],
            [find_cell(views, ordering.table, row, column) for row in ordering.right],
        )
        for column in columns
    ]


def difference(cell: CellScores, other: CellScores) -> Measured | str:
    """The first's mean minus the other's, or why there is none."""
    return _compare("", [cell], [other])


def _compare(
    name: str, left: list[CellScores | None], right: list[CellScores | None] | None
) -> Measured | str:
    """Best of left minus best of right; of left alone without a right.

    For a verdict the best of left has to be above every row of the right beyond the two rows' own
    errors, which `low` is for; where it is below any of them, `high` shows it.
    """
    cells = _complete([*left, *(right or [])])
    if isinstance(cells, str):
        return cells
    lefts, rights = cells[: len(left)], cells[len(left) :]
    best = max(lefts, key=_mean)
    rival = max(rights, key=_mean) if rights else None
    used = [best] if rival is None else [best, rival]
    value = _mean(best) - (0.0 if rival is None else _mean(rival))
    pairs = [
        [_interval(_mean(one) - _mean(other), [one, other]) for other in rights] for one in lefts
    ]
    if rival is None:
        pairs = [[_interval(value, [best])]]
    return _measured(
        name,
        value,
        _error(used),
        max(min(low for low, _ in row) for row in pairs),
        max(min(high for _, high in row) for row in pairs),
        cells,
        used,
    )


def _range(
    name: str, left: list[CellScores | None], right: list[CellScores | None] | None
) -> Measured | str:
    """How far the left rows lie apart minus how far the right ones do.

    Its error is not that of the rows that happen to be the outermost, but of the least certain two
    rows of each side, which is no smaller.
    """
    cells = _complete([*left, *(right or [])])
    if isinstance(cells, str):
        return cells
    sides = cells[: len(left)], cells[len(left) :]
    spans = [max(map(_mean, side)) - min(map(_mean, side)) for side in sides]
    used = [cell for side in sides for cell in sorted(side, key=_uncertain)[-2:]]
    value = spans[0] - spans[1]
    return _measured(name, value, _error(used), *_interval(value, used), cells, used)


def _measured(
    name: str,
    value: float,
    error: Error | None,
    low: float,
    high: float,
    cells: list[CellScores],
    used: list[CellScores],
) -> Measured:
    marked = next((cell for cell in cells if cell.imported), None)
    return Measured(
        name,
        value,
        error,
        runs=min(cell.n for cell in cells),
        low=low,
        high=high,
        theirs=combined(map(_theirs, used)),
        assumed=any(cell.published_error is None for cell in used),
        base=_mean(used[1]) if len(used) == 2 else None,
        timed=any(cell.unit == SECONDS_PER_EPOCH.unit for cell in cells),
        digits=max(cell.digits for cell in cells),
        elsewhere=f"{marked.row}: {marked.imported}" if marked else None,
        level=len(cells) == 1,
        one_pretraining=any(cell.n > 1 and len(cell.pretrainings) == 1 for cell in used),
    )


def _complete(cells: list[CellScores | None]) -> list[CellScores] | str:
    """The cells, or why one of them has no number."""
    found = [cell for cell in cells if cell is not None]
    if len(found) < len(cells):
        return "a row of it is not in this campaign"
    for cell in found:
        if cell.mean is None or cell.missing:
            return f"{cell.row}: {cell.missing}"
    return found


def _mean(cell: CellScores) -> float:
    assert cell.mean is not None
    return cell.mean


def _ours(cell: CellScores) -> Error | None:
    """Of the cell's mean; None below two runs.

    Finetunings of one pretraining have its luck in common: where there are several, the
    pretrainings' means are what is independent.
    """
    independent = cell.pretrainings if len(cell.pretrainings) > 1 else cell.values
    count = len(independent)
    if count < 2:
        return None
    return Error(statistics.stdev(independent) / math.sqrt(count), count - 1)


def _theirs(cell: CellScores) -> Error:
    """Of the paper's number; known, but for a deviation that is printed with its count."""
    if cell.published_error is None:
        return Error(PUBLISHED_STD)
    count = cell.published_count
    return Error(cell.published_error, count - 1 if count and count > 1 else math.inf)


def _uncertain(cell: CellScores) -> float:
    error = _ours(cell)
    return error.slack if error else math.inf


def _error(cells: list[CellScores]) -> Error | None:
    """Of a difference of the cells; None where one has a single run."""
    errors = [error for error in map(_ours, cells) if error]
    return combined(errors) if len(errors) == len(cells) else None


def _interval(value: float, cells: list[CellScores]) -> tuple[float, float]:
    error = _error(cells)
    slack = error.slack if error else 0.0
    return value - slack, value + slack

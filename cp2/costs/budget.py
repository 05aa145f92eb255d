"""What fits into so many device-hours."""

import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from cp2.costs.cost import Costs
from cp2.errors import UserError
from cp2.plan.text import columns, hours
from cp2.settings.load import Configuration

SHOWN = 4  # targets that are written out in the command; more go through a file

CellKey = tuple[str, str, str]  # table, row, column


@dataclass(frozen=True)
class Choice:
    """Cells that are made together, and the device-hours that they add."""

    cells: tuple[CellKey, ...]
    hours: float


@dataclass(frozen=True)
class Selection:
    """What a budget buys.

    Attributes:
        choices: in the order in which they were taken.
        runs: keys of the evaluate runs of all chosen cells.
        done: cells that cost nothing any more.
        left_out: cells beyond the budget, each with the hours it would add, cheapest first.
        unknown: cells of unknown cost.
    """

    choices: tuple[Choice, ...]
    runs: tuple[str, ...]
    done: tuple[CellKey, ...]
    left_out: tuple[tuple[CellKey, float], ...]
    unknown: tuple[CellKey, ...]

    @property
    def hours(self) -> float:
        return sum(choice.hours for choice in self.choices)

    @property
    def cells(self) -> int:
        return sum(len(choice.cells) for choice in self.choices)


def select(costs: Costs, budget: float) -> Selection:
    """The cells that `budget` device-hours can finish, most-shared first.

    Candidates are every single cell and, for every run, cells that start from it: they pay for it
    once, so the cheapest 1, 2, 3, ... of them are tried. A candidate costs what is left of all runs
    that it needs and that are not chosen yet. The one with the most cells per hour among those that
    still fit is taken, again and again, until none fits. (Greedy: not always the optimum.)

    Raises:
        UserError: the budget is no positive number, or not even the cheapest cell fits.
    """
    if not (math.isfinite(budget) and budget > 0):
        raise UserError(f"--budget {budget:g}: must be a positive number of hours, for example 500")
    needs = _needs(costs)
    unknown = [cell for cell, keys in needs.items() if costs.unknown(keys)]
    done = [cell for cell, keys in needs.items() if all(costs.runs[k].done >= 1 for k in keys)]
    todo = {cell: keys for cell, keys in needs.items() if cell not in {*unknown, *done}}
    choices, chosen = _choose(costs, dict(todo), budget)
    taken = {cell for choice in choices for cell in choice.cells}
    left_out = [
        (cell, costs.left(keys - chosen)) for cell, keys in todo.items() if cell not in taken
    ]
    left_out.sort(key=lambda item: item[1])
    if left_out and not choices:
        (table, row, column), hours = left_out[0]
        raise UserError(
            f"--budget {budget:g}: no cell fits; the cheapest is {table}, {row}, {column} with "
            f"{hours:.3g} {costs.throughput.unit} on {costs.throughput.device}"
        )
    return Selection(
        tuple(choices),
        tuple(_evaluations(costs, taken)),
        tuple(done),
        tuple(left_out),
        tuple(unknown),
    )


def _choose(
    costs: Costs, todo: dict[CellKey, set[str]], budget: float
) -> tuple[list[Choice], set[str]]:
    """Choices in their order, and the keys of all runs that they need."""
    choices: list[Choice] = []
    chosen: set[str] = set()
    while True:
        room = budget - sum(choice.hours for choice in choices)
        fitting = [c for c in _candidates(costs, todo, chosen) if c.hours <= room]
        if not fitting:
            return choices, chosen
        best = max(fitting, key=lambda c: (len(c.cells) / max(c.hours, 1e-9), len(c.cells)))
        choices.append(best)
        for cell in best.cells:
            chosen |= todo.pop(cell)


def _candidates(costs: Costs, todo: dict[CellKey, set[str]], chosen: set[str]) -> Iterator[Choice]:
    """See `select`; `todo` holds the cells that are left with the keys of all that they need."""
    open_runs = {cell: keys - chosen for cell, keys in todo.items()}
    groups: dict[str, list[CellKey]] = {}
    for cell, keys in open_runs.items():
        yield Choice((cell,), costs.left(keys))
        for key in sorted(keys):  # of equally good choices the first is taken
            groups.setdefault(key, []).append(cell)
    for group in dict.fromkeys(tuple(cells) for cells in groups.values() if len(cells) > 1):
        shared = set.intersection(*(open_runs[cell] for cell in group))
        paid, hours = set(shared), costs.left(shared)
        cells: tuple[CellKey, ...] = ()
        for cell in sorted(group, key=lambda c: (costs.left(open_runs[c] - shared), c)):
            hours += costs.left(open_runs[cell] - paid)
            paid |= open_runs[cell]
            cells += (cell,)
            yield Choice(cells, hours)


def _needs(costs: Costs) -> dict[CellKey, set[str]]:
    """Keys of all runs that each cell needs."""
    return {
        (table.name, cell.row, cell.column): {
            run.key for run in costs.plan.ancestors(list(cell.runs))
        }
        for table in costs.plan.tables.values()
        for cell in table.cells
        if cell.runs
    }


def _evaluations(costs: Costs, chosen: set[CellKey]) -> list[str]:
    keys = [
        key
        for table in costs.plan.tables.values()
        for cell in table.cells
        if (table.name, cell.row, cell.column) in chosen
        for key in cell.runs
    ]
    return list(dict.fromkeys(keys))


def spend(
    costs: Costs, configuration: Configuration, budget: float, site: str | None, targets: bool
) -> str:
    """What a budget buys: as a list with the command that makes it, or Snakemake's targets alone.

    Raises:
        UserError: the budget is wrong or buys nothing.
    """
    selection = select(costs, budget)
    files = [
        costs.plan.runs[key].outputs(configuration.results)["done"].as_posix()
        for key in selection.runs
    ]
    if targets:
        return "\n".join(files)
    command = snakemake_command(files, configuration, budget, site)
    return budget_listing(costs, selection, budget, command)


def snakemake_command(
    files: list[str], configuration: Configuration, budget: float, site: str | None
) -> list[str]:
    """Lines to type; many targets go through a file, so that a restart makes the same ones."""
    profile = "slurm" if site else "local"
    config = [f"campaign={configuration.source}"]
    if configuration.assignments:
        config.append(f"set={json.dumps(list(configuration.assignments))}")
    if site:
        config.append(f"site={site}")
    tail = f"--workflow-profile workflow/profiles/{profile} --config {shlex.join(config)}"
    if len(files) <= SHOWN:
        return [f"  snakemake {shlex.join(files)} {tail}"]
    words = ["cp2", "plan", "--campaign", configuration.source]
    for text in configuration.assignments:
        words += ["--set", text]
    if site:
        words += ["--site", site]
    words += ["--budget", f"{budget:g}", "--targets"]
    return [f"  {shlex.join(words)} > targets.txt", f"  snakemake $(cat targets.txt) {tail}"]


def budget_listing(costs: Costs, selection: Selection, budget: float, command: list[str]) -> str:
    """What fits, in the order it was chosen, what does not, and how to make just this."""
    unit, device = costs.throughput.unit, costs.throughput.device
    rows = [[unit, "cell"]]
    for choice in selection.choices:
        for n, (table, row, column) in enumerate(choice.cells):
            shown = f"+{hours(choice.hours)}" if n == 0 else ""
            rows.append([shown, f"{table}: {row}, {column}"])
    lines = [
        f"{budget:g} {unit} on {device}: {selection.cells} cells fit, "
        f"{hours(selection.hours)} {unit}"
        + (f"; {len(selection.done)} are done" if selection.done else ""),
        *(columns(rows, right=(0,)) if selection.choices else []),
    ]
    if selection.left_out:
        (table, row, column), more = selection.left_out[0]
        lines.append(
            f"beyond the budget: {len(selection.left_out)} cells; the cheapest, {table}: {row}, "
            f"{column}, adds {hours(more)} {unit}"
        )
    if selection.unknown:
        lines.append(f"cost unknown: {len(selection.unknown)} cells; --cost says why")
    if selection.choices:
        lines += ["", "to make just these:", *command]
    return "\n".join(lines)

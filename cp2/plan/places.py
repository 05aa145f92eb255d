"""Which table rows need a run, and by which tags it is found: in MLflow and by `cp2 plot`."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

from cp2.plan.graph import Cell, Plan, Run


@dataclass(frozen=True, order=True)
class Row:
    """One row of one table: in MLflow the parent of its seeds."""

    table: str
    name: str

    @property
    def key(self) -> str:
        return f"row/{self.table}/{self.name}"


@dataclass(frozen=True)
class Places:
    """Where the runs of a plan stand in its tables, in the order of the tables and their rows."""

    plan: Plan

    @cached_property
    def cells(self) -> dict[Row, list[Cell]]:
        """The cells of each row that have runs."""
        cells: dict[Row, list[Cell]] = defaultdict(list)
        for table in self.plan.tables.values():
            for cell in table.cells:
                if cell.runs:
                    cells[Row(table.name, cell.row)].append(cell)
        return dict(cells)

    @cached_property
    def runs(self) -> dict[Row, list[Run]]:
        """All runs that a row needs, what they start from included."""
        return {
            row: self.plan.ancestors([key for cell in cells for key in cell.runs])
            for row, cells in self.cells.items()
        }

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        """Run key -> the rows that need the run; MLflow's parent is the first."""
        rows: dict[str, list[Row]] = {key: [] for key in self.plan.runs}
        for row, runs in self.runs.items():
            for run in runs:
                rows[run.key].append(row)
        return rows

    def tags(self, run: Run) -> dict[str, str]:
        """A run's tags, where it has none of that name those of its pretraining, and its rows.

        `table` and `row` are those of the first row that needs it; `tables` and `rows` name all.
        """
        found = {"stage": run.stage, "run_id": run.id, **self._merged(run)}
        if run.seed is not None:
            found["seed"] = str(run.seed)
        if rows := self.rows[run.key]:
            found |= {"table": rows[0].table, "row": rows[0].name}
            found["tables"] = ", ".join(dict.fromkeys(row.table for row in rows))
            found["rows"] = ", ".join(dict.fromkeys(row.name for row in rows))
        return found

    def _merged(self, run: Run) -> dict[str, str]:
        origin = self.pretraining_of(run)
        if origin is None:
            return run.tags
        return {**origin.tags, **run.tags, "pretrain_run_id": origin.id}

    def pretraining_of(self, run: Run) -> Run | None:
        """The last pretraining that a finetuning or an evaluation starts from, if any."""
        if run.stage == "pretrain":
            return None
        last = None
        for before in self.plan.ancestors([run.key]):
            last = before if before.stage == "pretrain" else last
        return last

"""Tables -> runs -> graph. The only place that decides which runs exist."""

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from cp2.errors import UserError
from cp2.plan.graph import Cell, Plan, PlannedTable
from cp2.plan.imported import Place, read_imported
from cp2.plan.names import check_names
from cp2.plan.pretraining import mask_checkpoint
from cp2.plan.protocols import check_metrics, evaluate_cell, metric_of
from cp2.plan.sources import missing_checkpoint, stand_in
from cp2.plan.stages import Stages
from cp2.settings.imported import ImportedScores
from cp2.settings.load import Configuration
from cp2.settings.messages import nearest
from cp2.settings.metrics import SECONDS_PER_EPOCH
from cp2.settings.tables import Column, Row, TableSettings

Named = TypeVar("Named", Row, Column)


def build_plan(configuration: Configuration) -> Plan:
    """All runs of a campaign.

    Raises:
        UserError: a table names something that does not exist or does not fit together.
    """
    return _Builder(configuration).build()


@dataclass
class _Builder:
    configuration: Configuration
    plan: Plan = field(default_factory=Plan)

    @cached_property
    def stages(self) -> Stages:
        return Stages(self.configuration, self.plan)

    @cached_property
    def imported(self) -> dict[Place, ImportedScores]:
        return read_imported(self.configuration)

    def build(self) -> Plan:
        campaign = self.configuration.campaign
        check_names(self.configuration)
        for name in campaign.select:
            if name not in campaign.tables and not self.configuration.inherited_selection(name):
                raise UserError(f"select.{name}: not in tables; {nearest(name, campaign.tables)}")
        for name in campaign.tables:
            self.plan.tables[name] = self._table(self.configuration.table(name))
        for pretraining in campaign.pretrainings:
            for seed in campaign.seeds.pretrain:
                run = self.stages.pretrain(
                    pretraining, pretraining.backbone, pretraining.head, seed
                )
                self.plan.pretrainings.append(run.key)
                self.plan.requested += len(self.plan.ancestors([run.key]))
        return self.plan

    def _table(self, table: TableSettings) -> PlannedTable:
        check_metrics(self.configuration, table)
        cells = [
            self._cell(table, row, column)
            for row in self._rows(table)
            for column in self._columns(table)
        ]
        planned = PlannedTable(table.name, tuple(cells))
        for cell in cells:  # what each cell alone would need: its runs and all before them
            self.plan.requested += len(self.plan.ancestors(list(cell.runs)))
        return planned

    def _rows(self, table: TableSettings) -> list[Row]:
        campaign = self.configuration.campaign
        selection = campaign.select.get(table.name)
        if selection is None or selection.rows is None:
            return [row for row in table.rows if campaign.extra_rows or not row.extra]
        return _selected(list(table.rows), selection.rows, f"select.{table.name}.rows")

    def _columns(self, table: TableSettings) -> list[Column]:
        selection = self.configuration.campaign.select.get(table.name)
        if selection is None or selection.columns is None:
            return list(table.columns)
        return _selected(list(table.columns), selection.columns, f"select.{table.name}.columns")

    def _cell(self, table: TableSettings, row: Row, column: Column) -> Cell:
        imported = self.imported.get((table.name, row.name, column.name))
        if imported:
            return Cell(row.name, column.name, (), imported=imported)
        reason = row.missing or column.missing or self._unreachable(row)
        if reason:
            return Cell(row.name, column.name, (), reason)
        if metric_of(self.configuration, table, column) == SECONDS_PER_EPOCH:
            return Cell(row.name, column.name, self._timed(table, row, column))
        runs = [
            evaluate_cell(self.stages, table, row, column, *seeds)
            for seeds in self._seeds(table, row, column)
        ]
        return Cell(row.name, column.name, tuple(dict.fromkeys(run.key for run in runs)))

    def _timed(self, table: TableSettings, row: Row, column: Column) -> tuple[str, ...]:
        """The row's pretraining on the column's data set, one run a seed."""
        if row.pretrain is None:
            raise UserError(
                f"table {table.name!r}, row {row.name!r}: column {column.name!r} measures "
                "pretraining, but the row has none; give it pretrain, or missing: <why>"
            )
        pretraining = row.pretrain.model_copy(update={"dataset": column.dataset})
        seeds = self.configuration.campaign.seeds.pretrain
        return tuple(
            self.stages.pretrain(pretraining, row.backbone, table.head, seed).key for seed in seeds
        )

    def _seeds(self, table: TableSettings, row: Row, column: Column) -> list[tuple[int, int]]:
        """Pairs of a pretraining and a finetuning seed, one pair a run of the cell."""
        seeds = self.configuration.campaign.seeds
        if table.trials:
            return [(trial, trial) for trial in range(table.trials)]
        finetune = seeds.finetune_by_dataset.get(column.dataset, seeds.finetune)
        pretrain = seeds.pretrain if row.pretrain else (0,)
        return list(itertools.product(pretrain, finetune))

    def _unreachable(self, row: Row) -> str | None:
        """Why a file that the row starts from, or cuts its masks with, cannot be had."""
        configuration = self.configuration
        pretraining = row.pretrain
        names = [row.checkpoint, mask_checkpoint(configuration, pretraining)]
        while pretraining and pretraining.start:
            pretraining = pretraining.start
            names.append(mask_checkpoint(configuration, pretraining))
        names.append(pretraining.checkpoint if pretraining else None)
        for name in filter(None, names):
            settings = configuration.checkpoint(configuration.used(name))
            reason = missing_checkpoint(configuration, settings)
            if reason and not stand_in(configuration, settings):
                return reason
        return None


def _selected(items: list[Named], names: tuple[str, ...], key: str) -> list[Named]:
    by_name = {item.name: item for item in items}
    for name in names:
        if name not in by_name:
            raise UserError(f"{key}: no {name!r} in the table; {nearest(name, by_name)}")
    return [by_name[name] for name in names]

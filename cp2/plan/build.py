"""Tables -> runs -> graph. The only place that decides which runs exist."""

from dataclasses import dataclass, field
from typing import TypeVar

from cp2.errors import UserError
from cp2.plan.graph import Cell, Plan, PlannedTable, Run, make_run
from cp2.plan.recipes import (
    CheckpointRecipe,
    DatasetRecipe,
    EvaluateRecipe,
    FinetuneRecipe,
    PretrainRecipe,
    PublishRecipe,
    WorldRecipe,
)
from cp2.plan.sources import missing_checkpoint
from cp2.settings.load import Configuration
from cp2.settings.messages import nearest
from cp2.settings.optimization import AdamWSettings, OptimizerSettings, SgdSettings
from cp2.settings.protocols import DatasetSchedule, FinetuneOptimization, ProtocolSettings
from cp2.settings.tables import Column, Pretraining, Row, TableSettings

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

    def build(self) -> Plan:
        campaign = self.configuration.campaign
        for name in campaign.select:
            if name not in campaign.tables:
                raise UserError(f"select.{name}: not in tables; {nearest(name, campaign.tables)}")
        for name in campaign.tables:
            self.plan.tables[name] = self._table(self.configuration.table(name))
        return self.plan

    # tables

    def _table(self, table: TableSettings) -> PlannedTable:
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
        rows = [row for row in table.rows if campaign.extra_rows or not row.extra]
        selection = campaign.select.get(table.name)
        if selection is None or selection.rows is None:
            return rows
        return _selected(rows, selection.rows, f"select.{table.name}.rows")

    def _columns(self, table: TableSettings) -> list[Column]:
        selection = self.configuration.campaign.select.get(table.name)
        if selection is None or selection.columns is None:
            return list(table.columns)
        return _selected(list(table.columns), selection.columns, f"select.{table.name}.columns")

    def _cell(self, table: TableSettings, row: Row, column: Column) -> Cell:
        reason = row.missing or self._unreachable(row)
        if reason:
            return Cell(row.name, column.name, (), reason)
        seeds = self.configuration.campaign.seeds
        finetune_seeds = seeds.finetune_by_dataset.get(column.dataset, seeds.finetune)
        keys = []
        for origin in self._origins(table, row):
            for seed in finetune_seeds:
                finetune = self._finetune(table, row, column, origin, seed)
                keys.append(self._evaluate(table, column, finetune).key)
        return Cell(row.name, column.name, tuple(keys))

    def _unreachable(self, row: Row) -> str | None:
        pretraining = row.pretrain
        while pretraining and pretraining.start:
            pretraining = pretraining.start
        name = row.checkpoint or (pretraining.checkpoint if pretraining else None)
        if name is None:
            return None
        settings = self.configuration.checkpoint(self.configuration.used(name))
        return missing_checkpoint(self.configuration, settings)

    # stages

    def _origins(self, table: TableSettings, row: Row) -> list[Run | None]:
        """What finetuning starts from: nothing, a checkpoint, or one pretraining a seed."""
        if row.checkpoint:
            return [self._checkpoint(row.checkpoint, row.backbone)]
        if row.pretrain:
            seeds = self.configuration.campaign.seeds.pretrain
            return [self._pretrain(row.pretrain, row.backbone, table.head, seed) for seed in seeds]
        return [None]

    def _world(self) -> Run | None:
        world = self.configuration.campaign.world
        if world is None:
            return None
        run = make_run("world", "scenes", WorldRecipe(world=world), [], {}, plain_name=True)
        return self.plan.add(run)

    def _dataset(self, name: str) -> Run:
        configuration = self.configuration
        settings = configuration.dataset(configuration.used(name))
        classes = configuration.classes(settings.classes) if settings.classes else None
        world = self._world()
        from_world = any(
            url.startswith(configuration.world_folder.resolve().as_uri())
            for archive in settings.archives
            for url in archive.urls
        )
        return self.plan.add(
            make_run(
                "dataset",
                settings.name,
                DatasetRecipe(dataset=settings, classes=classes),
                [world] if world and from_world else [],
                {"dataset": settings.name},
                plain_name=True,
            )
        )

    def _checkpoint(self, name: str, backbone: str) -> Run:
        configuration = self.configuration
        settings = configuration.checkpoint(configuration.used(name))
        wanted = configuration.used(backbone)
        if settings.backbone != wanted:
            raise UserError(
                f"checkpoint {settings.name!r} is of backbone {settings.backbone!r}, "
                f"the row asks for {wanted!r}"
            )
        published = configuration.campaign.world_checkpoints.get(settings.name)
        needs = [self._publish(settings.name)] if published else []
        return self.plan.add(
            make_run(
                "checkpoint",
                settings.name,
                CheckpointRecipe(checkpoint=settings, backbone=configuration.backbone(wanted)),
                needs,
                {"backbone": wanted, "checkpoint": settings.name},
                plain_name=True,
            )
        )

    def _publish(self, name: str) -> Run:
        """The demo world's own checkpoint: a short pretraining in the official file format."""
        published = self.configuration.campaign.world_checkpoints[name]
        pretraining = Pretraining(
            method=published.method, epochs=published.epochs, dataset=published.dataset
        )
        trained = self._pretrain(pretraining, published.backbone, None, seed=0, as_written=True)
        recipe = PublishRecipe(published=published)
        return self.plan.add(make_run("publish", name, recipe, [trained], {}, plain_name=True))

    def _pretrain(
        self,
        pretraining: Pretraining,
        backbone_name: str,
        head_name: str | None,
        seed: int,
        as_written: bool = False,
    ) -> Run:
        configuration = self.configuration
        method = configuration.method(
            configuration.used(pretraining.method), pretraining.settings or None
        )
        backbone = configuration.backbone(configuration.used(backbone_name))
        if backbone.family not in method.optimizer:
            raise UserError(
                f"method {method.name!r} has no optimizer.{backbone.family}, which backbone "
                f"{backbone.name!r} needs; it has: {', '.join(method.optimizer)}"
            )
        head = None
        if method.kind == "cp2" and head_name:
            head = configuration.head(configuration.used(head_name))
        dataset = self._dataset(pretraining.dataset)
        start = self._start(pretraining, backbone_name, seed)
        needs = [dataset] + ([start] if start else [])
        epochs = pretraining.epochs if as_written else self._epochs(pretraining.epochs)
        recipe = PretrainRecipe(
            method=method,
            backbone=backbone,
            head=head,
            dataset=dataset.id,
            epochs=epochs,
            start=start.key if start else None,
        )
        kind = f"{method.name}-qt" if start else method.name
        parts = [kind, backbone.name, head.name if head else "", f"e{epochs}", f"s{seed}"]
        tags = {
            "method": kind,
            "backbone": backbone.name,
            "head": head.name if head else "none",
            "dataset": dataset.id,
        }
        name = "-".join(part for part in parts if part)
        return self.plan.add(make_run("pretrain", name, recipe, needs, tags, seed))

    def _start(self, pretraining: Pretraining, backbone: str, seed: int) -> Run | None:
        if pretraining.checkpoint:
            return self._checkpoint(pretraining.checkpoint, backbone)
        if pretraining.start:
            return self._pretrain(pretraining.start, backbone, None, seed)
        return None

    def _finetune(
        self, table: TableSettings, row: Row, column: Column, origin: Run | None, seed: int
    ) -> Run:
        configuration = self.configuration
        protocol = configuration.protocol(table.protocol)
        backbone = configuration.backbone(configuration.used(row.backbone))
        head = configuration.head(configuration.used(table.head))
        dataset = self._dataset(column.dataset)
        if not isinstance(dataset.recipe, DatasetRecipe) or dataset.recipe.classes is None:
            raise UserError(
                f"table {table.name!r}, column {column.name!r}: data set {dataset.id!r} has no "
                "labels; finetuning needs one with classes"
            )
        schedule = _schedule(protocol, column.dataset)
        pretrained_head = _head_is_pretrained(row, origin)
        fraction = column.label_fraction or protocol.label_fraction
        recipe = FinetuneRecipe(
            backbone=backbone,
            head=head,
            pretrained_head=pretrained_head,
            dataset=dataset.id,
            classes=len(dataset.recipe.classes.classes),
            label_fraction=fraction,
            augmentation=schedule.augmentation,
            optimization=_optimization(protocol, schedule, backbone.family, pretrained_head),
            norm=protocol.norm,
            amp=protocol.amp,
        )
        source = _source_name(origin)
        tags = {
            "method": source,
            "backbone": backbone.name,
            "head": head.name,
            "dataset": dataset.id,
            "labels": f"{fraction:g}",
            "init": origin.id if origin else "random",
        }
        parts = [dataset.id, head.name, source, backbone.name]
        if fraction < 1:
            parts.append(f"l{fraction:g}")
        parts.append(f"s{seed}")
        needs = [dataset] + ([origin] if origin else [])
        return self.plan.add(make_run("finetune", "-".join(parts), recipe, needs, tags, seed))

    def _evaluate(self, table: TableSettings, column: Column, finetune: Run) -> Run:
        protocol = self.configuration.protocol(table.protocol)
        schedule = _schedule(protocol, column.dataset)
        dataset = self._dataset(column.dataset)
        recipe = EvaluateRecipe(
            dataset=dataset.id,
            split="val",
            resize=schedule.augmentation.resize,
            inference=schedule.inference,
        )
        name = finetune.id.rsplit("-", 1)[0]
        run = make_run(
            "evaluate", name, recipe, [dataset, finetune], dict(finetune.tags), finetune.seed
        )
        return self.plan.add(run)

    def _epochs(self, published: int) -> int:
        epochs = self.configuration.campaign.epochs
        if not epochs:
            return published
        if published not in epochs:
            raise UserError(
                f"campaign {self.configuration.campaign.name!r}: epochs has no entry for "
                f"{published}; write epochs: {{{published}: <epochs at this scale>}}"
            )
        return epochs[published]


def _selected(items: list[Named], names: tuple[str, ...], key: str) -> list[Named]:
    by_name = {item.name: item for item in items}
    for name in names:
        if name not in by_name:
            raise UserError(f"{key}: no {name!r} in the table; {nearest(name, by_name)}")
    return [by_name[name] for name in names]


def _head_is_pretrained(row: Row, origin: Run | None) -> bool:
    if row.head_init == "random" or origin is None:
        return False
    return isinstance(origin.recipe, PretrainRecipe) and origin.recipe.head is not None


def _source_name(origin: Run | None) -> str:
    if origin is None:
        return "random"
    return origin.tags["method"] if origin.stage == "pretrain" else origin.id


def _schedule(protocol: ProtocolSettings, dataset: str) -> DatasetSchedule:
    if dataset not in protocol.datasets:
        raise UserError(
            f"protocol {protocol.name!r} has no schedule for data set {dataset!r}; "
            f"{nearest(dataset, protocol.datasets)}"
        )
    return protocol.datasets[dataset]


def _optimization(
    protocol: ProtocolSettings, schedule: DatasetSchedule, family: str, pretrained_head: bool
) -> FinetuneOptimization:
    chosen = {str(k): v for k, v in protocol.optimizer.items()}.get(family)
    lr = {str(k): v for k, v in schedule.lr.items()}.get(family)
    if chosen is None or lr is None:
        raise UserError(
            f"protocol {protocol.name!r} has no optimizer and lr for backbones of family {family!r}"
        )
    decay = (
        chosen.weight_decay_pretrained_head if pretrained_head else chosen.weight_decay_random_head
    )
    optimizer: OptimizerSettings
    if chosen.kind == "sgd":
        optimizer = SgdSettings(kind="sgd", lr=lr, weight_decay=decay)
    else:
        optimizer = AdamWSettings(kind="adamw", lr=lr, weight_decay=decay, no_decay=chosen.no_decay)
    return FinetuneOptimization(
        optimizer=optimizer,
        poly=chosen.poly,
        batch_size=schedule.batch_size,
        iterations=schedule.iterations,
    )

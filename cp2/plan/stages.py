"""Runs of each stage, with the recipes that the settings and a table's cell give them."""

from dataclasses import dataclass
from typing import Any

from cp2.errors import UserError
from cp2.plan.graph import Plan, Run, make_run
from cp2.plan.origins import (
    as_finetuned,
    as_pretrained,
    as_trained,
    backbone_of,
    head_is_pretrained,
    source_name,
)
from cp2.plan.pretraining import (
    attending_backbone,
    attention_of,
    check_pretraining,
    masks_run,
)
from cp2.plan.protocols import protocol_of
from cp2.plan.recipes import (
    AuxiliaryRecipe,
    CacheRecipe,
    CheckpointRecipe,
    DatasetRecipe,
    EvaluateRecipe,
    FinetuneRecipe,
    PretrainRecipe,
    PublishRecipe,
    WorldRecipe,
)
from cp2.plan.schedules import optimization_of, schedule_of
from cp2.settings.load import Configuration
from cp2.settings.methods import MethodSettings
from cp2.settings.protocols.segmentation import DatasetSchedule, SegmentationSettings
from cp2.settings.tables import Column, Pretraining, Row, TableSettings


@dataclass
class Stages:
    """Adds runs to a plan; asking twice for the same run gives the same run."""

    configuration: Configuration
    plan: Plan

    def _world(self) -> Run | None:
        world = self.configuration.campaign.world
        if world is None:
            return None
        run = make_run("world", "scenes", WorldRecipe(world=world), [], {}, plain_name=True)
        return self.plan.add(run)

    def dataset(self, name: str) -> Run:
        configuration = self.configuration
        settings = configuration.dataset(configuration.used(name))
        classes = configuration.classes(settings.classes) if settings.classes else None
        world = self._world()
        from_world = any(
            url.startswith(f"{configuration.world_folder.resolve().as_uri()}/")
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

    def checkpoint(self, name: str, backbone: str) -> Run:
        configuration = self.configuration
        settings = configuration.checkpoint(configuration.used(name))
        wanted = configuration.used(backbone)
        if settings.backbone != wanted:
            raise UserError(
                f"checkpoint {settings.name!r} is of backbone {settings.backbone!r}, "
                f"the row asks for {wanted!r}"
            )
        head = configuration.head(configuration.used(settings.head)) if settings.head else None
        published = configuration.campaign.world_checkpoints.get(settings.name)
        needs = [self._publish(settings.name)] if published else []
        return self.plan.add(
            make_run(
                "checkpoint",
                settings.name,
                CheckpointRecipe(
                    checkpoint=settings,
                    backbone=as_trained(configuration.backbone(wanted), settings),
                    head=head,
                ),
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
        trained = self.pretrain(pretraining, published.backbone, None, seed=0, as_written=True)
        recipe = PublishRecipe(published=published)
        return self.plan.add(make_run("publish", name, recipe, [trained], {}, plain_name=True))

    def pretrain(
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
        usual = configuration.method(method.name).model_dump()
        backbone = configuration.backbone(configuration.used(backbone_name))
        if backbone.family not in method.optimizer:
            raise UserError(
                f"method {method.name!r} has no optimizer.{backbone.family}, which backbone "
                f"{backbone.name!r} needs; it has: {', '.join(method.optimizer)}"
            )
        start = self._start(pretraining, backbone_name, seed)
        backbone = as_pretrained(backbone_of(start, backbone), backbone, method)
        accumulate = configuration.campaign.execution.accumulate
        check_pretraining(method, backbone, accumulate.get("pretrain", 1))
        head = None
        if method.pretrains_head and head_name:
            head = configuration.head(configuration.used(head_name))
        dataset = self.dataset(pretraining.dataset)
        needs = [dataset, *([start] if start else []), *self._masks(dataset, method)]
        needs += self._cache(dataset, method)
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
            "variant": _variant(usual, method.model_dump()),
        }
        name = "-".join(part for part in parts if part)
        return self.plan.add(make_run("pretrain", name, recipe, needs, tags, seed))

    def _cache(self, dataset: Run, method: MethodSettings) -> list[Run]:
        """The decoded copy of the data set that a pretraining reads, if it reads one."""
        side = method.reading.cache
        if side is None:
            return []
        recipe = CacheRecipe(dataset=dataset.id, short_side=side)
        tags = {"dataset": dataset.id}
        return [self.plan.add(make_run("cache", f"{dataset.id}-{side}", recipe, [dataset], tags))]

    def _masks(self, dataset: Run, method: MethodSettings) -> list[Run]:
        """The attention maps that a pretraining's masks are cut from, if it needs any."""
        mask = attention_of(method)
        if mask is None:
            return []
        backbone = attending_backbone(self.configuration, mask)
        checkpoint = self.checkpoint(mask.checkpoint, backbone.name)
        return [self.plan.add(masks_run(dataset, checkpoint, backbone, mask))]

    def _start(self, pretraining: Pretraining, backbone: str, seed: int) -> Run | None:
        if pretraining.checkpoint:
            return self.checkpoint(pretraining.checkpoint, backbone)
        if pretraining.start:
            return self.pretrain(pretraining.start, backbone, None, seed)
        return None

    def finetune(
        self, table: TableSettings, row: Row, column: Column, origin: Run | None, seed: int
    ) -> Run:
        configuration = self.configuration
        protocol = protocol_of(configuration, table, column)
        assert isinstance(protocol, SegmentationSettings)
        head = configuration.head(configuration.used(column.head or table.head))
        dataset = self.dataset(column.dataset)
        if not isinstance(dataset.recipe, DatasetRecipe) or dataset.recipe.classes is None:
            raise UserError(
                f"table {table.name!r}, column {column.name!r}: data set {dataset.id!r} has no "
                "labels; finetuning needs one with classes"
            )
        schedule = schedule_of(protocol, column.dataset)
        configured = configuration.backbone(configuration.used(row.backbone))
        backbone = as_finetuned(backbone_of(origin, configured), configured, schedule)
        pretrained_head = head_is_pretrained(row, origin, head)
        fraction = column.label_fraction or protocol.label_fraction
        recipe = FinetuneRecipe(
            backbone=backbone,
            head=head,
            pretrained_head=pretrained_head,
            dataset=dataset.id,
            classes=len(dataset.recipe.classes.classes),
            label_fraction=fraction,
            augmentation=schedule.augmentation,
            optimization=optimization_of(
                protocol, column.dataset, backbone.family, pretrained_head
            ),
            amp=protocol.amp,
            align_corners=schedule.align_corners,
            auxiliary=self._auxiliary(schedule),
        )
        source = source_name(origin)
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

    def _auxiliary(self, schedule: DatasetSchedule) -> AuxiliaryRecipe | None:
        asked = schedule.auxiliary
        if asked is None:
            return None
        head = self.configuration.head(self.configuration.used(asked.head))
        return AuxiliaryRecipe(head=head, weight=asked.weight)

    def evaluate(self, table: TableSettings, column: Column, finetune: Run) -> Run:
        protocol = protocol_of(self.configuration, table, column)
        assert isinstance(protocol, SegmentationSettings)
        schedule = schedule_of(protocol, column.dataset)
        dataset = self.dataset(column.dataset)
        recipe = EvaluateRecipe(
            dataset=dataset.id,
            split="val",
            resize=schedule.augmentation.resize,
            inference=schedule.inference,
            align_corners=schedule.align_corners,
            normalization=schedule.augmentation.normalization,
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


def _variant(usual: dict[str, Any], here: dict[str, Any], prefix: str = "") -> str:
    """Where a row's method differs from the usual one, as `dense_weight=1 mask.kind=full`."""
    words = []
    for key, value in here.items():
        other = usual.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            words.append(_variant(other, value, f"{prefix}{key}."))
        elif value != other:
            words.append(f"{prefix}{key}={value}")
    return " ".join(filter(None, words))

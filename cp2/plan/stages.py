"""Runs of each stage, with the recipes that the settings and a table's cell give them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cp2.errors import UserError
from cp2.plan.graph import Plan, Run, make_run
from cp2.plan.pretraining import (
    attending_backbone,
    attention_of,
    check_pretraining,
    masks_run,
)
from cp2.plan.recipes import (
    CacheRecipe,
    CheckpointRecipe,
    DatasetRecipe,
    PretrainRecipe,
    PublishRecipe,
    WorldRecipe,
)
from cp2.plan.sources import stand_in
from cp2.settings.checkpoints import CheckpointSettings
from cp2.settings.contrastive import PretrainingSettings
from cp2.settings.datasets import Archive
from cp2.settings.load import Configuration
from cp2.settings.models import BackboneSettings, trained_as
from cp2.settings.tables import Pretraining, Row, TableSettings


@dataclass
class Stages:
    """Adds runs to a plan; asking twice for the same run gives the same run."""

    configuration: Configuration
    plan: Plan
    _starts: dict[tuple[str, str, int], Run | None] = field(default_factory=dict)

    def _world(self, archives: Iterable[Archive]) -> list[Run]:
        """The part of the demo world that archives lie in, if they do."""
        world = self.configuration.campaign.world
        folder = f"{self.configuration.world_folder.resolve().as_uri()}/"
        urls = [url for archive in archives for url in archive.urls if url.startswith(folder)]
        if world is None or not urls:
            return []
        recipe = WorldRecipe(world=world, part=urls[0].removeprefix(folder).partition("/")[0])
        run = make_run("world", recipe.part, recipe, [], {}, plain_name=True)
        return [self.plan.add(run)]

    def dataset(self, name: str) -> Run:
        configuration = self.configuration
        settings = configuration.dataset(configuration.used(name))
        if known := self.plan.runs.get(f"dataset/{settings.name}"):
            return known  # asked for by every cell
        classes = configuration.classes(settings.classes) if settings.classes else None
        last = len(classes.classes) - 1 if classes else 255
        for value, train_id in (settings.label_values or {}).items():
            if last < train_id != 255:
                raise UserError(
                    f"data set {settings.name}: label_values: {value}: {train_id}, but the class "
                    f"list {settings.classes} ends with {last}; write less, or 255 to ignore"
                )
        return self.plan.add(
            make_run(
                "dataset",
                settings.name,
                DatasetRecipe(dataset=settings, classes=classes),
                self._world(settings.archives),
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
        if trained_as(backbone) not in method.optimizer:
            raise UserError(
                f"method {method.name!r} has no optimizer.{trained_as(backbone)}, which backbone "
                f"{backbone.name!r} needs; it has: {', '.join(method.optimizer)}"
            )
        start = self._start(pretraining, backbone_name, seed)
        backbone = as_pretrained(backbone_of(start, backbone), backbone, method)
        accumulate = configuration.campaign.execution.accumulate
        check_pretraining(method, backbone, accumulate.get("pretrain", 1))
        warmup = method.schedule.warmup_epochs
        if warmup >= pretraining.epochs and not as_written:
            raise UserError(
                f"method {method.name!r}: schedule.warmup_epochs {warmup:g} would last all of the "
                f"{pretraining.epochs} epochs of its pretraining; write fewer"
            )
        head = None
        if method.pretrains_head:
            if head_name is None:
                raise UserError(
                    f"method {method.name!r} pretrains a segmentation head, but is given none: a "
                    "table names it (head: ...); what another pretraining starts from, and what "
                    "the demo world publishes, needs a method without one"
                )
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

    def _cache(self, dataset: Run, method: PretrainingSettings) -> list[Run]:
        """The decoded copy of the data set that a pretraining reads, if it reads one."""
        side = method.reading.cache
        if side is None:
            return []
        recipe = CacheRecipe(dataset=dataset.id, short_side=side)
        tags = {"dataset": dataset.id}
        return [self.plan.add(make_run("cache", f"{dataset.id}-{side}", recipe, [dataset], tags))]

    def _masks(self, dataset: Run, method: PretrainingSettings) -> list[Run]:
        """The attention maps that a pretraining's masks are cut from, if it needs any."""
        mask = attention_of(method)
        if mask is None:
            return []
        backbone = attending_backbone(self.configuration, mask)
        checkpoint = self.checkpoint(mask.checkpoint, backbone.name)
        return [self.plan.add(masks_run(dataset, checkpoint, backbone, mask))]

    def start(self, table: TableSettings, row: Row, seed: int) -> Run | None:
        """The checkpoint or pretraining whose weights a row judges; None: random ones."""
        key = (table.name, row.name, seed)
        if key not in self._starts:  # asked for by every cell of a row and every seed of finetuning
            self._starts[key] = self._start_of(table, row, seed)
        return self._starts[key]

    def _start_of(self, table: TableSettings, row: Row, seed: int) -> Run | None:
        if row.checkpoint:
            return self._published(row.checkpoint, row.backbone, seed)
        if row.pretrain:
            return self.pretrain(row.pretrain, row.backbone, table.head, seed)
        return None

    def _published(self, name: str, backbone: str, seed: int) -> Run:
        """A checkpoint, or what stands in for it."""
        settings = self.configuration.checkpoint(self.configuration.used(name))
        if own := stand_in(self.configuration, settings):
            pretraining = Pretraining(method=own.method, epochs=own.epochs)
            return self.pretrain(pretraining, backbone, None, seed)
        return self.checkpoint(name, backbone)

    def _start(self, pretraining: Pretraining, backbone: str, seed: int) -> Run | None:
        if pretraining.checkpoint:
            return self._published(pretraining.checkpoint, backbone, seed)
        if pretraining.start:
            return self.pretrain(pretraining.start, backbone, None, seed)
        return None

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


def as_trained(backbone: BackboneSettings, checkpoint: CheckpointSettings) -> BackboneSettings:
    """The backbone with the padding, the input and the attention heads of a published file.

    Raises:
        UserError: a vision transformer whose file states no number of heads or another one, or
            whose file asks for what only ResNets have.
    """
    if backbone.family == "resnet":
        return backbone.model_copy(
            update={"padding": checkpoint.padding, "input": checkpoint.input}
        )
    where = f"checkpoint {checkpoint.name!r} of backbone {backbone.name!r}"
    if backbone.family == "timm":
        if checkpoint.padding != "symmetric":
            raise UserError(f"{where}: padding is for ResNets; remove it")
        return backbone.model_copy(update={"input": checkpoint.input})
    if checkpoint.padding != "symmetric" or checkpoint.input != "imagenet":
        raise UserError(f"{where}: padding and input are for ResNets; remove them")
    if checkpoint.attention_heads is None:
        raise UserError(
            f"{where}: attention_heads is missing in configs/checkpoints.yaml; a wrong number "
            "cannot be seen from the file, so write what the model was trained with"
        )
    if checkpoint.attention_heads != backbone.heads:
        raise UserError(
            f"{where} was trained with attention_heads {checkpoint.attention_heads}, the backbone "
            f"has heads: {backbone.heads}; give the checkpoint a backbone of its own in "
            "configs/models/backbones/"
        )
    return backbone


def backbone_of(start: Run | None, configured: BackboneSettings) -> BackboneSettings:
    """The backbone that a run goes on with: the one that its weights were trained as."""
    if start is not None and isinstance(start.recipe, CheckpointRecipe | PretrainRecipe):
        return start.recipe.backbone
    return configured


def as_pretrained(
    backbone: BackboneSettings, configured: BackboneSettings, method: PretrainingSettings
) -> BackboneSettings:
    """The backbone at the stride that a method wants it; that of its start is no matter."""
    if backbone.family != "vit" and configured.family != "vit":
        stride = method.output_stride or configured.output_stride
        return backbone.model_copy(update={"output_stride": stride})
    return backbone


def source_name(start: Run | None) -> str:
    """What a finetuning's id and tags call what it starts from."""
    if start is None:
        return "random"
    return start.tags["method"] if start.stage == "pretrain" else start.id

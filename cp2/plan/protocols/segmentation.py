"""Segmentation in a plan: a finetuning with labels, and its scores on the validation split."""

from typing import Literal

from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.plan.pretraining import check_crop
from cp2.plan.protocols import CellSettings, protocol_run, scoring_run
from cp2.plan.recipes import (
    CheckpointRecipe,
    DatasetRecipe,
    EvaluateRecipe,
    FinetuneRecipe,
    PretrainRecipe,
)
from cp2.plan.stages import Stages, backbone_of
from cp2.settings.base import PositiveFloat, PositiveInt, Settings, Size, added, unhashed
from cp2.settings.metrics import Metric
from cp2.settings.models import BackboneSettings, HeadSettings, trained_as
from cp2.settings.optimization import AdamWSettings, OptimizerSettings, SgdSettings
from cp2.settings.protocols.segmentation import (
    DatasetSchedule,
    FinetuneAugmentation,
    FinetuneOptimization,
    InferenceSettings,
    Normalization,
    SegmentationSettings,
)
from cp2.settings.tables import Row


class AuxiliaryRecipe(Settings):
    """A second head on the last stage but one, in training only."""

    head: HeadSettings
    weight: PositiveFloat


class SegmentationFinetuneRecipe(FinetuneRecipe):
    """A segmentation model trained with labels."""

    protocol: Literal["segmentation"] = added("segmentation")
    backbone: BackboneSettings
    head: HeadSettings
    pretrained_head: bool  # the head's weights come from the pretraining, too
    classes: PositiveInt
    label_fraction: float
    augmentation: FinetuneAugmentation
    optimization: FinetuneOptimization
    amp: str
    align_corners: bool = added(False)
    auxiliary: AuxiliaryRecipe | None = added(None)
    zero_init_residual: bool = added(False)  # from random weights: last norms of blocks start at 0


class SegmentationEvaluateRecipe(EvaluateRecipe):
    """Scores of a finetuned model on a data set's validation split."""

    metrics = SegmentationSettings.metrics
    per_class = Metric("iou", "IoU", "percent")

    protocol: Literal["segmentation"] = added("segmentation")
    resize: Size
    inference: InferenceSettings
    align_corners: bool = added(False)
    normalization: Normalization = added("imagenet")
    pictures: int = unhashed(4, ge=0)


def evaluation(stages: Stages, cell: CellSettings, start: Run | None, seed: int) -> Run:
    """The run that scores a finetuning of `start`.

    Raises:
        UserError: the cell's protocol, data set, backbone or head do not fit together.
    """
    protocol = cell.protocol
    assert isinstance(protocol, SegmentationSettings)
    schedule: DatasetSchedule = protocol.schedule_of(cell.column.dataset)
    dataset = stages.dataset(cell.column.dataset)
    finetuning = _finetuning(stages, cell, protocol, dataset, start, seed)
    recipe = SegmentationEvaluateRecipe(
        dataset=dataset.id,
        split="val",
        resize=schedule.augmentation.resize,
        inference=schedule.inference,
        align_corners=schedule.align_corners,
        normalization=schedule.augmentation.normalization,
    )
    return scoring_run(stages, recipe, finetuning)


def _finetuning(
    stages: Stages,
    cell: CellSettings,
    protocol: SegmentationSettings,
    dataset: Run,
    start: Run | None,
    seed: int,
) -> Run:
    configuration = stages.configuration
    column = cell.column
    head_name = column.head or cell.table.head
    if head_name is None:
        raise UserError(
            f"{cell}: protocol {protocol.name!r} (kind segmentation) trains a head, but neither "
            "the table nor the column names one; write head: <a name from configs/models/heads/>"
        )
    head = configuration.head(configuration.used(head_name))
    if not isinstance(dataset.recipe, DatasetRecipe) or dataset.recipe.classes is None:
        raise UserError(
            f"{cell}: data set {dataset.id!r} has no labels; finetuning needs one with classes"
        )
    if dataset.recipe.dataset.labels != "pixels":
        raise UserError(
            f"{cell}: data set {dataset.id!r} has objects with boxes and no "
            "labels of pixels; segmentation cannot be finetuned with it"
        )
    schedule: DatasetSchedule = protocol.schedule_of(column.dataset)
    check_micro_batches(configuration.campaign.execution.accumulate.get("finetune", 1), schedule)
    configured = configuration.backbone(configuration.used(cell.row.backbone))
    backbone = as_finetuned(backbone_of(start, configured), configured, schedule)
    pretrained_head = head_is_pretrained(cell.row, start, head)
    fraction = column.label_fraction or protocol.label_fraction
    auxiliary = None
    if schedule.auxiliary:
        second = configuration.head(configuration.used(schedule.auxiliary.head))
        auxiliary = AuxiliaryRecipe(head=second, weight=schedule.auxiliary.weight)
    recipe = SegmentationFinetuneRecipe(
        backbone=backbone,
        head=head,
        pretrained_head=pretrained_head,
        dataset=dataset.id,
        classes=len(dataset.recipe.classes.classes),
        label_fraction=fraction,
        augmentation=schedule.augmentation,
        optimization=optimization_of(protocol, column.dataset, backbone, pretrained_head),
        amp=protocol.amp,
        align_corners=schedule.align_corners,
        auxiliary=auxiliary,
        zero_init_residual=protocol.zero_init_residual
        and start is None
        and backbone.family == "resnet",
    )
    labels = f"{fraction:g}"
    return protocol_run(
        stages,
        "finetune",
        recipe,
        backbone.name,
        start,
        seed,
        label=head.name,
        suffix=f"-l{labels}" if fraction < 1 else "",
        head=head.name,
        labels=labels,
    )


def optimization_of(
    protocol: SegmentationSettings,
    dataset: str,
    backbone: BackboneSettings,
    pretrained_head: bool,
) -> FinetuneOptimization:
    """Optimiser and schedule of one run.

    Args:
        backbone: whose family's they are, or the family's that its `optimizer` names.
        pretrained_head: the head's weights come from the pretraining, too.

    Raises:
        UserError: the protocol has no optimiser or rate for the family; says where to write them.
    """
    schedule = protocol.datasets[dataset]
    family = trained_as(backbone)
    optimizers = protocol.optimizer_of(dataset)
    chosen, lr = optimizers.get(family), schedule.lr.get(family)
    if chosen is None or lr is None:
        lacking = [f"optimizer.{family}"] * (chosen is None)
        lacking += [f"datasets.{dataset}.lr.{family}"] * (lr is None)
        others = [key for key in optimizers if key in schedule.lr]
        timms = backbone.family == "timm" and others
        own = f"write optimizer: {' or '.join(others)} in the backbone's file, " if timms else ""
        raise UserError(
            f"protocol {protocol.name!r} has no {' and no '.join(lacking)}, with which backbone "
            f"{backbone.name!r} is trained; write {'them' if lacking[1:] else 'it'} in the "
            f"protocol's file, {own}or take another protocol or backbone"
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
        step=chosen.step,
        batch_size=schedule.batch_size,
        bn_group_size=schedule.bn_group_size,
        iterations=schedule.iterations,
    )


def check_micro_batches(count: int, schedule: DatasetSchedule) -> None:
    """Refuse micro-batches of finetuning that would cut a group of batch norm.

    Raises:
        UserError: says which counts would not.
    """
    batch = schedule.batch_size
    group = min(schedule.bn_group_size or batch, batch)
    fitting = [n for n in range(1, batch + 1) if batch % n == 0 and batch // n % group == 0]
    if count > 1 and count not in fitting:
        raise UserError(
            f"execution.accumulate.finetune {count}: batch norm sees {group} of {batch} images "
            f"at a time (bn_group_size), so a step can be cut into {', '.join(map(str, fitting))}; "
            "other groups would give other numbers: a bn_group_size in the protocol changes ids"
        )


def as_finetuned(
    backbone: BackboneSettings, configured: BackboneSettings, schedule: DatasetSchedule
) -> BackboneSettings:
    """The backbone as a data set's schedule wants it; its pretraining's stride is no matter.

    Raises:
        UserError: the schedule asks for what this backbone does not have.
    """
    if backbone.family != "vit" and configured.family != "vit":
        if schedule.augmentation.normalization == "legacy" and backbone.input != "imagenet":
            raise UserError(
                f"backbone {backbone.name!r} sees input {backbone.input!r}, which cannot be "
                "combined with augmentation.normalization: legacy; write imagenet"
            )
        stride = schedule.output_stride or configured.output_stride
        return backbone.model_copy(update={"output_stride": stride})
    if schedule.output_stride or schedule.auxiliary:
        raise UserError(
            f"backbone {backbone.name!r} is a vision transformer: output_stride and auxiliary of "
            "a protocol are for ResNets; take another protocol or backbone"
        )
    check_crop(backbone, schedule.augmentation.crop, "augmentation.crop")
    if schedule.inference.window:
        check_crop(backbone, schedule.inference.window, "inference.window")
    return backbone


def head_is_pretrained(row: Row, start: Run | None, head: HeadSettings) -> bool:
    """Whether finetuning takes the head from what it starts from, too.

    Raises:
        UserError: a checkpoint's head is another one than the table's.
    """
    if row.head_init == "random" or start is None:
        return False
    recipe = start.recipe
    if not isinstance(recipe, CheckpointRecipe | PretrainRecipe) or recipe.head is None:
        return False
    if recipe.head != head:
        raise UserError(
            f"row {row.name!r}: {start.key} comes with head {recipe.head.name!r}, the table asks "
            f"for {head.name!r}; write head_init: random in the row to take the backbone alone"
        )
    return True

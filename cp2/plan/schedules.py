"""What a protocol says about one data set and one family of backbones."""

from cp2.errors import UserError
from cp2.settings.messages import nearest
from cp2.settings.optimization import AdamWSettings, OptimizerSettings, SgdSettings
from cp2.settings.protocols.segmentation import (
    DatasetSchedule,
    FinetuneOptimization,
    SegmentationSettings,
)


def schedule_of(protocol: SegmentationSettings, dataset: str) -> DatasetSchedule:
    """A data set's schedule, by the name in the table.

    Raises:
        UserError: the protocol has none.
    """
    if dataset not in protocol.datasets:
        raise UserError(
            f"protocol {protocol.name!r} has no schedule for data set {dataset!r}; "
            f"{nearest(dataset, protocol.datasets)}"
        )
    return protocol.datasets[dataset]


def optimization_of(
    protocol: SegmentationSettings, dataset: str, family: str, pretrained_head: bool
) -> FinetuneOptimization:
    """Optimiser and schedule of one run.

    Args:
        family: of the backbone.
        pretrained_head: the head's weights come from the pretraining, too.

    Raises:
        UserError: the protocol has no optimiser or rate for the family.
    """
    schedule = protocol.datasets[dataset]
    chosen = {str(k): v for k, v in protocol.optimizer_of(dataset).items()}.get(family)
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
        step=chosen.step,
        batch_size=schedule.batch_size,
        bn_group_size=schedule.bn_group_size,
        iterations=schedule.iterations,
    )

"""Linear SVM in a plan: scores of a pretrained backbone as it is."""

from typing import Literal

from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.plan.protocols import CellSettings, dataset_with_objects, protocol_run
from cp2.plan.recipes import EvaluateRecipe
from cp2.plan.stages import Stages, backbone_of
from cp2.settings.metrics import Metric
from cp2.settings.models import BackboneSettings
from cp2.settings.protocols.svm import SvmSchedule, SvmSettings


class SvmRecipe(EvaluateRecipe):
    """SVMs of the training images' features, scored on the test images."""

    metrics = SvmSettings.metrics
    per_class = Metric("ap", "AP", "percent")

    protocol: Literal["svm"] = "svm"
    backbone: BackboneSettings
    schedule: SvmSchedule


def evaluation(stages: Stages, cell: CellSettings, start: Run | None, seed: int) -> Run:
    """The run that fits and scores SVMs of `start`'s features.

    Raises:
        UserError: the data set has no objects, or the column, the backbone and the protocol do not
            fit together.
    """
    key = f"protocols.{cell.protocol.name}.datasets.{cell.column.dataset}.shots"
    hint = f"; of a low-shot SVM the protocol says shots ({key})"
    dataset, _ = dataset_with_objects(stages, cell, hint)
    configuration = stages.configuration
    schedule: SvmSchedule = cell.protocol.schedule_of(cell.column.dataset)
    backbone = backbone_of(start, configuration.backbone(configuration.used(cell.row.backbone)))
    if backbone.family != "vit":
        backbone = backbone.model_copy(update={"output_stride": schedule.output_stride})
    _check_pool(backbone, schedule, f"{cell}, protocol {cell.protocol.name!r}")
    recipe = SvmRecipe(dataset=dataset.id, split="test", backbone=backbone, schedule=schedule)
    kind = f"svm{schedule.shots}" if schedule.shots else "svm"
    return protocol_run(stages, "evaluate", recipe, backbone.name, start, seed, label=kind)


def _check_pool(backbone: BackboneSettings, schedule: SvmSchedule, where: str) -> None:
    rounding = backbone.stride - 1 if backbone.family == "resnet" else 0
    rows, columns = ((side + rounding) // backbone.stride for side in schedule.size)
    if min(rows, columns) < schedule.pool:
        raise UserError(
            f"{where}: pool {schedule.pool} is larger than the map of {backbone.name}, "
            f"{rows}x{columns} positions of an image of {schedule.size[0]}x{schedule.size[1]}; "
            "take a smaller pool or a larger size"
        )

"""Detection in a plan: a detector's finetuning, and its scores on the test split."""

from typing import Literal

from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.plan.protocols import CellSettings, dataset_with_objects, protocol_run, scoring_run
from cp2.plan.recipes import DatasetRecipe, EvaluateRecipe, FinetuneRecipe
from cp2.plan.stages import Stages, backbone_of
from cp2.settings.base import PositiveInt, unhashed
from cp2.settings.metrics import Metric
from cp2.settings.models import ResNetSettings
from cp2.settings.protocols.detection import (
    DetectionSchedule,
    DetectionSettings,
    DetectionTraining,
    DetectorSettings,
)

STRIDE = 32  # of the backbone's last stage


class DetectionFinetuneRecipe(FinetuneRecipe):
    """A detector trained with boxes."""

    protocol: Literal["detection"] = "detection"
    backbone: ResNetSettings
    classes: PositiveInt
    detector: DetectorSettings
    training: DetectionTraining
    amp: str


class DetectionEvaluateRecipe(EvaluateRecipe):
    """Average precision of a finetuned detector."""

    metrics = DetectionSettings.metrics
    per_class = Metric("ap", "AP", "percent")

    protocol: Literal["detection"] = "detection"
    short_side: PositiveInt
    long_side: PositiveInt
    score: str
    pictures: int = unhashed(4, ge=0)


def evaluation(stages: Stages, cell: CellSettings, start: Run | None, seed: int) -> Run:
    """The run that scores a detector finetuned from `start`.

    Raises:
        UserError: the data set has no boxes, or the backbone no four stages.
    """
    dataset, classes = dataset_with_objects(stages, cell)
    configuration = stages.configuration
    schedule: DetectionSchedule = cell.protocol.schedule_of(cell.column.dataset)
    assert isinstance(cell.protocol, DetectionSettings)
    backbone = backbone_of(start, configuration.backbone(configuration.used(cell.row.backbone)))
    if backbone.family != "resnet":
        raise UserError(
            f"{cell}: backbone {backbone.name!r} is of family {backbone.family}; a detector "
            "needs the four stages of a ResNet"
        )
    detector = schedule.detector
    assert isinstance(dataset.recipe, DatasetRecipe)
    if detector.masks and not dataset.recipe.dataset.masks:
        raise UserError(
            f"{cell}: data set {dataset.id!r} (kind {dataset.recipe.dataset.kind}) has boxes but "
            "no masks; write detector: {masks: false} and select columns without them, or use kind "
            "coco-instances or coco-json"
        )
    metric, measured = cell.column.metric, cell.protocol.measured(cell.column.dataset)
    if metric and metric not in measured:
        kind = "with" if detector.masks else "without"
        raise UserError(
            f"{cell}: score {schedule.score} of a detector {kind} masks has no {metric}; it has "
            f"{', '.join(measured)}"
        )
    recipe = DetectionFinetuneRecipe(
        dataset=dataset.id,
        backbone=backbone.model_copy(update={"output_stride": STRIDE}),
        classes=classes,
        detector=detector,
        training=schedule.training,
        amp=cell.protocol.amp,
    )
    kind = detector.kind
    finetuning = protocol_run(
        stages, "finetune", recipe, backbone.name, start, seed, label=kind, head=kind
    )
    scored = DetectionEvaluateRecipe(
        dataset=dataset.id,
        split="test",
        short_side=schedule.short_side,
        long_side=schedule.long_side,
        score=schedule.score,
    )
    return scoring_run(stages, scored, finetuning)

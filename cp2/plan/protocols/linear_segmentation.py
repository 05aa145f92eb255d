"""Probes in a plan: scores of a pretrained backbone as it is. `knn.py` is the other kind."""

from typing import Literal

from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.plan.protocols import CellSettings, protocol_run
from cp2.plan.recipes import CheckpointRecipe, DatasetRecipe, EvaluateRecipe, PretrainRecipe
from cp2.plan.stages import Stages, backbone_of
from cp2.settings.metrics import Metric
from cp2.settings.models import BackboneSettings, HeadSettings
from cp2.settings.protocols.probes import (
    KnnSchedule,
    KnnSettings,
    LinearSchedule,
    LinearSettings,
    ProbeSchedule,
)


class ProbeRecipe(EvaluateRecipe):
    """What the positions of a frozen network tell of classes; `head`: where features pass it."""

    metrics = LinearSettings.metrics
    per_class = Metric("iou", "IoU", "percent")

    backbone: BackboneSettings
    head: HeadSettings | None
    schedule: ProbeSchedule


class LinearRecipe(ProbeRecipe):
    """A linear classifier of positions."""

    protocol: Literal["linear-segmentation"] = "linear-segmentation"
    schedule: LinearSchedule


class KnnRecipe(ProbeRecipe):
    """Votes of the nearest positions."""

    metrics = KnnSettings.metrics
    protocol: Literal["knn"] = "knn"
    schedule: KnnSchedule


RECIPES = {"linear-segmentation": LinearRecipe, "knn": KnnRecipe}


def evaluation(stages: Stages, cell: CellSettings, start: Run | None, seed: int) -> Run:
    """The run that probes `start`.

    Raises:
        UserError: the data set has no labelled pixels, or the features do not exist.
    """
    if cell.column.head:
        raise UserError(f"{cell}: head is for segmentation; a probe has features: head")
    dataset = stages.dataset(cell.column.dataset)
    schedule: ProbeSchedule = cell.protocol.schedule_of(cell.column.dataset)
    fraction = cell.column.label_fraction or schedule.label_fraction
    schedule = schedule.model_copy(update={"label_fraction": fraction})
    settings = stages.configuration
    backbone = settings.backbone(settings.used(cell.row.backbone))
    kind = cell.protocol.kind
    recipe = probe_recipe(kind, dataset, start, backbone, schedule, str(cell))
    labels = f"{fraction:g}"
    label = kind.removesuffix("-segmentation") + ("" if fraction == 1 else f"-l{labels}")
    return protocol_run(
        stages, "evaluate", recipe, backbone.name, start, seed, label=label, labels=labels
    )


def probe_recipe(
    kind: str,
    dataset: Run,
    start: Run | None,
    configured: BackboneSettings,
    schedule: ProbeSchedule,
    where: str,
) -> ProbeRecipe:
    """The recipe of a probe.

    Args:
        configured: the backbone, where `start` does not say it.
        where: begins error texts.
    Raises:
        UserError: the data set has no labelled pixels, the images are smaller than a position, or
            there is no head to take features of.
    """
    found = dataset.recipe
    assert isinstance(found, DatasetRecipe)
    if found.dataset.labels not in ("pixels", "image"):
        raise UserError(
            f"{where}: data set {dataset.id!r} (kind {found.dataset.kind}) has no label pictures; "
            f"kind {kind} needs one that has, such as voc2012 or kind labelled, or kind folders"
        )
    backbone = backbone_of(start, configured)
    if backbone.family != "vit" and schedule.output_stride:
        backbone = backbone.model_copy(update={"output_stride": schedule.output_stride})
    if min(schedule.size) < backbone.stride or any(s % backbone.stride for s in schedule.size):
        raise UserError(
            f"{where}: size {list(schedule.size)} is no multiple of {backbone.stride}, the stride "
            f"of backbone {backbone.name!r}: positions would not lie on the label; write one"
        )
    recipe = start.recipe if start else None
    own = recipe.head if isinstance(recipe, PretrainRecipe | CheckpointRecipe) else None
    if schedule.features != "backbone" and own is None:
        what = start.key if start else "a backbone with random weights"
        raise UserError(
            f"{where}: features {schedule.features}, but {what} has no pretrained head; write "
            "features: backbone"
        )
    return RECIPES[kind](
        dataset=dataset.id,
        split="val",
        backbone=backbone,
        head=own if schedule.features != "backbone" else None,
        schedule=schedule,
    )

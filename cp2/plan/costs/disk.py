"""Disk space that a campaign's runs take, from their settings."""

from dataclasses import dataclass
from pathlib import Path

from cp2.plan.costs.layers import (
    auxiliary_layers,
    classifier_layer,
    head_layers,
    parameters,
    predictor_layers,
    projection_layers,
)
from cp2.plan.graph import Plan, Run
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe
from cp2.plan.recipes import CheckpointRecipe, DatasetRecipe, PretrainRecipe
from cp2.settings.dense import DenseSettings
from cp2.settings.methods import MethodSettings
from cp2.settings.optimization import OptimizerSettings

_FLOAT = 4  # bytes
_SAVES = 3  # the newest state, the one before it, and the one being written


@dataclass(frozen=True)
class Disk:
    """Bytes.

    Attributes:
        archives: downloads, as far as their sizes are published.
        unpacked: the data sets made of them; images are stored compressed, so about as much.
        models: final weights of all runs.
        states: resume states of one job of each stage while it trains; the largest counts.
        unknown: what has no published size.
    """

    archives: float
    unpacked: float
    models: float
    states: float
    unknown: tuple[str, ...]


def disk_space(plan: Plan, results: Path | None = None) -> Disk:
    """What a whole campaign takes; archives that two data sets share count once.

    Args:
        results: leaves out the runs that are done there.
    """
    archives: dict[str, float] = {}
    unpacked, models, states = 0.0, 0.0, [0.0]
    unknown: list[str] = []
    for run in plan.runs.values():
        if results and run.is_done(results):
            continue
        match run.recipe:
            case DatasetRecipe(dataset=dataset) if not run.needs:
                sizes = {archive.file: archive.gb for archive in dataset.archives}
                unknown += [name for name, gb in sizes.items() if gb is None]
                known = {name: 1e9 * gb for name, gb in sizes.items() if gb is not None}
                archives |= known
                unpacked += sum(known.values())
            case CheckpointRecipe() | PretrainRecipe() | SegmentationFinetuneRecipe():
                size = model_bytes(run)
                if size is None:
                    unknown.append(run.key)
                else:
                    models += size
                    states.append(_SAVES * (state_bytes(run) or 0.0))
    return Disk(
        sum(archives.values()), unpacked, models, max(states), tuple(dict.fromkeys(unknown))
    )


def model_bytes(run: Run) -> float | None:
    """Size of a run's final weights, batch norm's statistics aside (half a per cent); None where
    the backbone's settings do not say its `parameters` and `channels`."""
    match run.recipe:
        case CheckpointRecipe(backbone=backbone):
            return None if backbone.parameters is None else _FLOAT * backbone.parameters
        case PretrainRecipe(method=method):
            trained = _trained(run.recipe)
            return None if trained is None else _FLOAT * (trained + _queues(method))
        case SegmentationFinetuneRecipe():
            trained = _trained(run.recipe)
            return None if trained is None else _FLOAT * trained
    return None


def state_bytes(run: Run) -> float | None:
    """Size of one saved state: weights, the key encoder and the queues, the optimiser's slots."""
    match run.recipe:
        case PretrainRecipe(method=method, backbone=backbone):
            trained = _trained(run.recipe)
            slots = _slots(method.optimizer[backbone.family])
            if trained is None:
                return None
            predictor = parameters(predictor_layers(run.recipe))
            learnt = (trained + predictor) * (1 + slots)
            return _FLOAT * (learnt + trained + _queues(method))
        case SegmentationFinetuneRecipe(optimization=optimization):
            trained = _trained(run.recipe)
            slots = _slots(optimization.optimizer)
            if trained is None:
                return None
            second = parameters(auxiliary_layers(run.recipe))
            return _FLOAT * (trained + second) * (1 + slots)
    return None


def _slots(optimizer: OptimizerSettings) -> int:
    return 2 if optimizer.kind == "adamw" else 1


def _trained(recipe: PretrainRecipe | SegmentationFinetuneRecipe) -> int | None:
    """Parameters of the model that is kept: no predictor, no auxiliary head."""
    backbone, head = recipe.backbone, recipe.head
    if backbone.parameters is None or backbone.channels is None:
        return None
    channels, count = backbone.channels, backbone.parameters
    if head is not None:
        count += parameters(head_layers(head, channels))
        channels = head.channels
    if isinstance(recipe, PretrainRecipe):
        return count + parameters(projection_layers(recipe, channels))
    return count + classifier_layer(recipe.head, recipe.classes).parameters


def _queues(method: MethodSettings) -> int:
    """Numbers in the queues; dense methods have one for cells, too."""
    return method.dim * method.queue_size * (2 if isinstance(method, DenseSettings) else 1)

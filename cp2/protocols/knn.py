"""Each position gets the classes of the training positions whose features are nearest."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from cp2.errors import UserError
from cp2.plan.graph import Run
from cp2.protocols.frozen_maps import Extraction, Positions, present_classes, score_run
from cp2.protocols.registry import Scored
from cp2.settings.campaign import Execution
from cp2.settings.protocols.probes import KnnSchedule


def evaluate(run: Run, results: Path, execution: Execution, device: torch.device) -> Scored:
    """Score one backbone; see `score_run`."""
    return score_run(run, results, execution, device, probe)


def probe(extraction: Extraction, train: Positions, val: Positions) -> Scored:
    """Votes of the training positions, scored on the validation images.

    Raises:
        UserError: there are fewer training positions than neighbours.
    """
    schedule = extraction.recipe.schedule
    assert isinstance(schedule, KnnSchedule)
    features, classes = train.labelled()
    _, note = present_classes(classes, extraction.index)
    count = min(schedule.bank, len(classes))
    if count < schedule.neighbours:
        raise UserError(
            f"neighbours {schedule.neighbours}, but the bank has {count} labelled positions of "
            f"{len(train.classes)} training images; lower neighbours, or raise bank or "
            "label_fraction"
        )
    kept = torch.arange(count) * len(classes) // count
    bank, classes = F.normalize(features[kept], dim=1), classes[kept]
    total = len(extraction.index.classes or ())
    maps = (votes(one, bank, classes, total, schedule) for one in val.features)
    return extraction.scored(maps, {"bank": count, **note})


def votes(
    features: Tensor, bank: Tensor, classes: Tensor, total: int, schedule: KnnSchedule
) -> Tensor:
    """Shares (total, h, w) of the votes of the unit vectors (P, C) nearest to a map's (C, h, w)."""
    asked = F.normalize(features.flatten(1), dim=0).T
    near = (asked @ bank.T).topk(schedule.neighbours)
    weights = torch.softmax(near.values / schedule.temperature, 1)
    shares = weights.new_zeros(len(asked), total).scatter_add_(1, classes[near.indices], weights)
    return shares.T.unflatten(1, features.shape[1:])

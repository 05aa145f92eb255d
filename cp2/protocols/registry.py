"""From a run to what does it: kind `segmentation` is in `cp2/protocols/segmentation`.

Such a module, or package, has one function or both:

    finetune(run, results, execution, deadline): trains, or goes on; for kinds that finetune
    evaluate(run, results, execution, device) -> Scored

Which kinds there are says `cp2.settings.protocols`.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cp2.data.index import DatasetIndex
from cp2.errors import UserError
from cp2.models.devices import choose_device, device_name, tensor_float
from cp2.plan.graph import Run
from cp2.plan.recipes import EvaluateRecipe, FinetuneRecipe
from cp2.record.files import write_json
from cp2.settings.base import hashed_fields
from cp2.settings.campaign import Execution
from cp2.settings.joined import module_of
from cp2.training.clock import Deadline


@dataclass(frozen=True)
class Scored:
    """What an evaluation found.

    Attributes:
        metrics: by the names of the recipe's metrics, before their scale.
        images: that were scored.
        per_class: the recipe's metric of each class, a share of one; None where no image has it.
        more: further keys of scores.json.
        waited: seconds of waiting for data.
        shown: name of the metric that the log says; None: the recipe's first.
    """

    metrics: dict[str, float]
    images: int
    per_class: dict[str, float | None] | None = None
    more: dict[str, Any] = field(default_factory=dict)
    waited: float = 0.0
    shown: str | None = None


def finetune(run: Run, results: Path, execution: Execution, deadline: Deadline) -> None:
    """Run or resume one finetuning; writes model.safetensors, then done.json.

    Raises:
        UserError: bad input, or a loss that is not finite.
        StoppedForResumeError: stopped by clock or signal after saving.
    """
    _runner(run).finetune(run, results, execution, deadline)


def evaluate(run: Run, results: Path, execution: Execution) -> None:
    """Score one model; writes what its protocol keeps, scores.json, then done.json.

    Raises:
        UserError: the model or the data set is missing or damaged, or they do not fit together.
    """
    recipe, folder = run.recipe, run.folder(results)
    assert isinstance(recipe, EvaluateRecipe)
    device = choose_device()
    tags = {**run.tags, "stage": run.stage, "run_id": run.id, "seed": str(run.seed)}
    folder.start(hashed_fields(recipe), tags, device_name(device))
    runner = _runner(run)
    begin = time.perf_counter()
    torch.backends.cudnn.benchmark = False  # each image has its size; a bench has trained before
    with tensor_float(True):  # as in training with amp: off
        found: Scored = runner.evaluate(run, results, execution, device)
    content = {"metrics": found.metrics, "images": found.images}
    content |= {"dataset": recipe.dataset, "split": recipe.split, **found.more}
    if found.per_class is not None:
        content["per_class"] = found.per_class
    write_json(folder.scores, content)
    seconds = time.perf_counter() - begin
    first = next(one for one in recipe.metrics if found.shown in (None, one.name))
    value = f"{first.scale * found.metrics[first.name]:.{first.digits + 1}f} {first.unit}"
    print(f"{run.id}: {first.title} {value} on {found.images} images, {seconds:.1f} s")
    run.finish(
        results,
        {
            "seconds": seconds,
            "samples_per_second": found.images / seconds,
            "data_wait": found.waited / seconds,
            "metrics": found.metrics,
            "images": found.images,
        },
    )


def checked_classes(index: DatasetIndex, known: int, path: Path) -> tuple[str, ...]:
    """Names of a data set's classes.

    Raises:
        UserError: the model in `path` predicts another number of them.
    """
    names = index.classes or ()
    if len(names) != known:
        raise UserError(
            f"{path} predicts {known} classes, data set {index.record.name} has {len(names)}; "
            "finetune on this data set first"
        )
    return names


def picture_indices(images: int, pictures: int) -> list[int]:
    """Indices spread evenly over a split, the same for every model."""
    count = min(images, pictures)
    return [i * images // count for i in range(count)]


def _runner(run: Run) -> Any:
    recipe = run.recipe
    assert isinstance(recipe, FinetuneRecipe | EvaluateRecipe)
    return module_of("cp2.protocols", recipe.protocol, recipe.runner)

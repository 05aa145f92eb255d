"""How many steps a run takes; known before anything runs."""

from dataclasses import dataclass
from pathlib import Path

from cp2.errors import WrongFile
from cp2.plan.graph import Plan, Run
from cp2.plan.protocols.detection import DetectionEvaluateRecipe, DetectionFinetuneRecipe
from cp2.plan.protocols.linear_segmentation import ProbeRecipe
from cp2.plan.protocols.segmentation import SegmentationEvaluateRecipe, SegmentationFinetuneRecipe
from cp2.plan.protocols.svm import SvmRecipe
from cp2.plan.recipes import (
    DatasetRecipe,
    MasksRecipe,
    PretrainRecipe,
    WorldRecipe,
)
from cp2.record.files import read_json
from cp2.settings.campaign import WorldSettings


@dataclass(frozen=True)
class Steps:
    """Steps of a whole run.

    Attributes:
        count: None where the data set's size is not known yet.
        batch_size: samples a step; 1 where images are counted.
    """

    count: int | None
    batch_size: int


def steps_of(run: Run, plan: Plan, results: Path) -> Steps | None:
    """The steps of a run, or None for stages that train and score nothing."""
    match run.recipe:
        case MasksRecipe():
            return Steps(_images(run, plan, results, ("unlabelled", "train")), 1)
        case PretrainRecipe(method=method, epochs=epochs):
            images = _images(run, plan, results, ("unlabelled", "train"))
            count = None if images is None else images // method.batch_size * epochs
            return Steps(count, method.batch_size)
        case (
            SegmentationFinetuneRecipe(optimization=schedule)
            | DetectionFinetuneRecipe(training=schedule)
        ):
            return Steps(schedule.iterations, schedule.batch_size)
        case SegmentationEvaluateRecipe(split=split) | DetectionEvaluateRecipe(split=split):
            return Steps(_images(run, plan, results, (split,)), 1)
        case SvmRecipe(split=split) | ProbeRecipe(split=split):
            sizes = [_images(run, plan, results, (one,)) for one in ("train", split)]
            return Steps(None if None in sizes else sum(filter(None, sizes)), 1)
    return None


def _images(run: Run, plan: Plan, results: Path, splits: tuple[str, ...]) -> int | None:
    """Images of the first of these splits that the run's data set has; None where unknown."""
    dataset = plan.needed(run, "dataset")
    sizes = split_sizes(dataset, plan, results)
    return next((sizes[split] for split in splits if split in sizes), None)


def split_sizes(dataset: Run, plan: Plan, results: Path) -> dict[str, int]:
    """Images of each split: of the prepared data set, else as published or as the world draws."""
    recipe = dataset.recipe
    assert isinstance(recipe, DatasetRecipe)
    try:
        record = read_json(dataset.outputs(results)["done"])
        return {str(name): int(split["images"]) for name, split in record["splits"].items()}
    except (WrongFile, KeyError, TypeError, ValueError, OverflowError, AttributeError):
        pass  # not prepared yet, or damaged: the data set stage says so
    world = plan.runs[dataset.needs[0]] if dataset.needs else None
    if world and isinstance(world.recipe, WorldRecipe):
        return _drawn(recipe.dataset.kind, world.recipe.world)
    return recipe.dataset.uncounted | recipe.dataset.counts


def _drawn(kind: str, world: WorldSettings) -> dict[str, int]:
    match kind:
        case "voc2012":
            train = world.voc_train + world.sbd_extra
            return {"train": train, "unlabelled": train, "val": world.voc_val}
        case "voc2007":
            return {"train": world.voc2007_train, "test": world.voc2007_test}
        case "coco-instances":
            return {"train": world.coco_train, "test": world.coco_val}
        case "cityscapes":
            return {"train": world.cityscapes_train, "val": world.cityscapes_val}
        case "ade20k":
            return {"train": world.ade20k_train, "val": world.ade20k_val}
        case _:
            return {"train": world.imagenet_classes * world.imagenet_per_class}

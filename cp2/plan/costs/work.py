"""The work in a run: how many samples of which kind. Known before anything runs."""

from dataclasses import dataclass, replace
from pathlib import Path

from cp2.errors import WrongFile
from cp2.plan.costs.arithmetic import (
    backbone_gflop,
    evaluation_gflop,
    finetuning_gflop,
    is_symmetric,
    pretraining_gflop,
)
from cp2.plan.graph import Plan, Run
from cp2.plan.protocols.segmentation import SegmentationEvaluateRecipe, SegmentationFinetuneRecipe
from cp2.plan.recipes import DatasetRecipe, MasksRecipe, PretrainRecipe, WorldRecipe
from cp2.record.files import read_json
from cp2.settings.campaign import WorldSettings

VIT_SIDE = 224  # pixels; timm's default


@dataclass(frozen=True)
class Kind:
    """What a throughput is looked up by; runs of one kind do the same to each sample."""

    stage: str
    method: str | None
    backbone: str
    head: str | None
    crop_size: tuple[int, int]  # height, width in pixels; evaluate: short and long side fitted into
    amp: str
    slide: bool = False  # evaluation by windows; whole images cost less
    output_stride: int = 16  # of the network; a vision transformer's is its patch
    symmetric: bool = False  # a pretraining that asks both ways
    auxiliary: str | None = None  # second head of a finetuning

    def __str__(self) -> str:
        names = [self.stage, self.method, self.backbone, self.head]
        words = [*names, f"{self.crop_size[0]}x{self.crop_size[1]}"]
        words += (
            [f"stride {self.output_stride}"] if self.output_stride != Kind.output_stride else []
        )
        words += [self.amp] if self.amp != "off" else []
        words += ["in windows"] if self.slide else []
        words += ["both ways"] if self.symmetric else []
        words += [f"and {self.auxiliary}"] if self.auxiliary else []
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Work:
    """Samples of one kind.

    Attributes:
        batch_size: samples a step; 1 in evaluate.
        steps: of the whole run; None where the data set's size is not known yet.
        gflop: of a sample; None where the backbone's settings do not say enough.
    """

    kind: Kind
    batch_size: int
    steps: int | None
    gflop: float | None = None

    @property
    def samples(self) -> int | None:
        return None if self.steps is None else self.steps * self.batch_size


def work_of(run: Run, plan: Plan, results: Path) -> Work | None:
    """The work of a run, or None for stages that train and score nothing."""
    match run.recipe:
        case MasksRecipe() as recipe:
            images = _images(run, plan, results, ("unlabelled", "train"))
            side = recipe.magnification * int(recipe.backbone.args.get("img_size", VIT_SIDE))
            kind = Kind("masks", None, recipe.backbone.name, None, (side, side), "off")
            return Work(kind, 1, images, backbone_gflop(recipe.backbone, (side, side)))
        case PretrainRecipe() as recipe:
            method = recipe.method
            images = _images(run, plan, results, ("unlabelled", "train"))
            steps = None if images is None else images // method.batch_size * recipe.epochs
            side = method.views.crop_size
            kind = Kind(
                "pretrain",
                method.name,
                recipe.backbone.name,
                recipe.head.name if recipe.head else None,
                (side, side),
                method.amp,
                output_stride=recipe.backbone.stride,
                symmetric=is_symmetric(recipe),
            )
            return Work(kind, method.batch_size, steps, pretraining_gflop(recipe))
        case SegmentationFinetuneRecipe() as recipe:
            schedule = recipe.optimization
            second = recipe.auxiliary.head.name if recipe.auxiliary else None
            kind = replace(
                _of_model("finetune", recipe, recipe.augmentation.crop), auxiliary=second
            )
            return Work(kind, schedule.batch_size, schedule.iterations, finetuning_gflop(recipe))
        case SegmentationEvaluateRecipe() as recipe:
            trained = plan.runs[f"finetune/{run.need('finetune')}"].recipe
            assert isinstance(trained, SegmentationFinetuneRecipe)
            images = _images(run, plan, results, (recipe.split,))
            slide = recipe.inference.mode == "slide"
            kind = replace(_of_model("evaluate", trained, recipe.resize), slide=slide)
            return Work(kind, 1, images, evaluation_gflop(recipe, trained))
    return None


def _of_model(stage: str, recipe: SegmentationFinetuneRecipe, size: tuple[int, int]) -> Kind:
    amp = recipe.amp if stage == "finetune" else "off"
    stride = recipe.backbone.stride
    return Kind(
        stage, None, recipe.backbone.name, recipe.head.name, size, amp, output_stride=stride
    )


def _images(run: Run, plan: Plan, results: Path, splits: tuple[str, ...]) -> int | None:
    """Images of the first of these splits that the run's data set has; None where unknown."""
    dataset = plan.runs[f"dataset/{run.need('dataset')}"]
    sizes = split_sizes(dataset, plan, results)
    return next((sizes[split] for split in splits if split in sizes), None)


def split_sizes(dataset: Run, plan: Plan, results: Path) -> dict[str, int]:
    """Images of each split: of the prepared data set, else as published or as the world draws."""
    recipe = dataset.recipe
    assert isinstance(recipe, DatasetRecipe)
    try:
        record = read_json(dataset.outputs(results)["done"])
        return {str(name): int(split["images"]) for name, split in record["splits"].items()}
    except (WrongFile, KeyError, TypeError, ValueError, AttributeError):
        pass  # not prepared yet, or damaged: the data set stage says so
    world = plan.runs.get("world/scenes")
    if dataset.needs and world and isinstance(world.recipe, WorldRecipe):
        return _drawn(recipe.dataset.kind, world.recipe.world)
    return recipe.dataset.uncounted | recipe.dataset.counts


def _drawn(kind: str, world: WorldSettings) -> dict[str, int]:
    match kind:
        case "voc2012":
            train = world.voc_train + world.sbd_extra
            return {"train": train, "unlabelled": train, "val": world.voc_val}
        case "cityscapes":
            return {"train": world.cityscapes_train, "val": world.cityscapes_val}
        case "ade20k":
            return {"train": world.ade20k_train, "val": world.ade20k_val}
        case _:
            return {"train": world.imagenet_classes * world.imagenet_per_class}

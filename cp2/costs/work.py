"""The work in a run: how many samples of which kind, and their GFLOP."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from cp2.costs.networks import (
    LANDSCAPE,
    backbone_gflop,
    count_detector,
    count_finetuning,
    count_pretraining,
    detector_gflop,
    segmentor_gflop,
)
from cp2.plan.graph import Plan, Run
from cp2.plan.protocols.detection import DetectionEvaluateRecipe, DetectionFinetuneRecipe
from cp2.plan.protocols.linear_segmentation import ProbeRecipe
from cp2.plan.protocols.segmentation import SegmentationEvaluateRecipe as EvaluateRecipe
from cp2.plan.protocols.segmentation import SegmentationFinetuneRecipe as FinetuneRecipe
from cp2.plan.protocols.svm import SvmRecipe
from cp2.plan.recipes import MasksRecipe, PretrainRecipe
from cp2.plan.steps import steps_of
from cp2.settings.models import BackboneSettings

PROPOSALS = 1000  # of an image that a detector is scored on
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
    symmetric: bool = False  # a pretraining whose loss takes both directions
    auxiliary: str | None = None  # second head of a finetuning

    def __str__(self) -> str:
        names = [self.stage, self.method, self.backbone, self.head]
        words = [*names, f"{self.crop_size[0]}x{self.crop_size[1]}"]
        stride = f"output stride {self.output_stride}"
        words += [stride] if self.output_stride != Kind.output_stride else []
        words += [self.amp] if self.amp != "off" else []
        words += ["in windows"] if self.slide else []
        words += ["symmetric"] if self.symmetric else []
        words += [f"and {self.auxiliary}"] if self.auxiliary else []
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Work:
    """Samples of one kind.

    Attributes:
        batch_size: samples a step; 1 in evaluate.
        steps: of the whole run; None where the data set's size is not known yet.
        gflop: of a sample.
    """

    kind: Kind
    batch_size: int
    steps: int | None
    gflop: float

    @property
    def samples(self) -> int | None:
        return None if self.steps is None else self.steps * self.batch_size


def work_of(run: Run, plan: Plan, results: Path) -> Work | None:
    """The work of a run, or None for stages that train and score nothing."""
    steps = steps_of(run, plan, results)
    if steps is None:
        return None
    kind, gflop = _kind(run, plan)
    return Work(kind, steps.batch_size, steps.count, gflop)


def _kind(run: Run, plan: Plan) -> tuple[Kind, float]:
    """The kind of work, and GFLOP of a sample."""
    match run.recipe:
        case MasksRecipe(backbone=backbone) as masks:
            side = masks.magnification * int(backbone.args.get("img_size", VIT_SIDE))
            return _kind_of("masks", backbone, (side, side)), backbone_gflop(backbone, (side, side))
        case PretrainRecipe(method=method, backbone=backbone, head=head) as pretraining:
            size = (method.views.crop_size, method.views.crop_size)
            named = head.name if head else None
            kind = _kind_of("pretrain", backbone, size, named, method.amp, method.name)
            kind = replace(kind, symmetric=getattr(method, "symmetric", False))
            return kind, count_pretraining(pretraining).gflop
        case FinetuneRecipe(backbone=backbone, head=head, auxiliary=second) as trained:
            kind = _kind_of("finetune", backbone, trained.augmentation.crop, head.name, trained.amp)
            kind = replace(kind, auxiliary=second.head.name if second else None)
            return kind, count_finetuning(trained).gflop
        case EvaluateRecipe(resize=resize, inference=inference) as scored:
            model = plan.needed(run, "finetune").recipe
            assert isinstance(model, FinetuneRecipe)
            kind = _kind_of("evaluate", model.backbone, resize, model.head.name)
            kind = replace(kind, slide=inference.mode == "slide")
            return kind, evaluation_gflop(scored, model)
        case DetectionFinetuneRecipe(backbone=backbone, training=training) as trained:
            size = (training.usual_side, training.long_side)
            kind = _kind_of("finetune", backbone, size, trained.detector.kind, trained.amp)
            return kind, count_detector(trained).gflop
        case DetectionEvaluateRecipe(short_side=short, long_side=long):
            model = plan.needed(run, "finetune").recipe
            assert isinstance(model, DetectionFinetuneRecipe)
            kind = _kind_of("evaluate", model.backbone, (short, long), model.detector.kind)
            return kind, detector_gflop(model, (short, round(short * LANDSCAPE)), PROPOSALS)
        case (
            SvmRecipe(backbone=backbone, schedule=schedule)
            | ProbeRecipe(backbone=backbone, schedule=schedule)
        ):  # its features; fits cost no device
            kind = _kind_of("evaluate", backbone, schedule.size)
            return kind, backbone_gflop(backbone, schedule.size)
    raise ValueError(f"{run.key} takes no steps")


def _kind_of(
    stage: str,
    backbone: BackboneSettings,
    size: tuple[int, int],
    head: str | None = None,
    amp: str = "off",
    method: str | None = None,
) -> Kind:
    return Kind(stage, method, backbone.name, head, size, amp, output_stride=backbone.stride)


def evaluation_gflop(recipe: EvaluateRecipe, model: FinetuneRecipe) -> float:
    """Forward pass of an image, or of all its windows."""
    size, inference = seen_size(recipe.resize), recipe.inference
    count = 1
    if inference.window is not None and inference.stride is not None:
        steps = zip(size, inference.window, inference.stride, strict=True)
        count = math.prod(1 + max(0, math.ceil((side - w) / s)) for side, w, s in steps)
        size = inference.window
    return count * segmentor_gflop(model.backbone, model.head, model.classes, size)


def seen_size(resize: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image that is fitted into a short and a long side.

    Most photographs are 4:3. A long side of at most twice the short one is taken for the images'
    own shape: such is Cityscapes' protocol.
    """
    short, long = resize
    return (short, long) if long <= 2 * short else (short, round(short * LANDSCAPE))

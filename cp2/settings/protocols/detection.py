"""Object detection: a detector is finetuned with boxes and scored by average precision.

The defaults are those of the released configurations, which DenseCL and PixCon share: MoCo's
detection/configs/pascal_voc_R_50_C4_24k_moco.yaml for detector `c4`. What PixCon's
coco_R_50_FPN_1x_moco.yaml sets otherwise is in configs/protocols/coco-detection.yaml.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cp2.settings.base import (
    Name,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Settings,
    added,
    unhashed,
)
from cp2.settings.metrics import Metric, ProtocolSettings
from cp2.settings.optimization import StepSettings

# Average precision at overlaps .5 to .95 and recall of the best 1, 10 and 100 detections an image;
# small: below 32 x 32 pixels, large: from 96 x 96 on. As COCO's evaluator prints them.
COCO_NUMBERS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
    "ar_1": "AR of 1",
    "ar_10": "AR of 10",
    "ar_100": "AR of 100",
    "ar_small": "AR small",
    "ar_medium": "AR medium",
    "ar_large": "AR large",
}
VOC_NUMBERS = ("ap", "ap50", "ap75")

Sides = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class DetectorSettings(Settings):
    """A detector's network.

    Attributes:
        kind: Faster R-CNN on a ResNet's last stage (`c4`, Ren et al. 2015, with MoCo's extra
            norm) or on a feature pyramid (`fpn`, Lin et al. 2017, with norms and four convolutions
            in its heads).
        anchors: their sizes in pixels; one for each of the five maps of an `fpn`.
        regions: of each training image that the losses of classes and boxes see.
        width: channels of the pyramid and of its heads.
        hidden: channels of an `fpn`'s box head.
        masks: an `fpn` has a mask head, too (Mask R-CNN, He et al. 2017).
        recompute: `c4` computes maps of regions again for their gradient instead of keeping them:
            more time, and by `cp2 plan --cost` 69 GB of a GPU instead of 75 for 16 images.
    """

    kind: Literal["c4", "fpn"] = "c4"
    anchors: Annotated[tuple[PositiveFloat, ...], Field(min_length=5, max_length=5)] = (
        *(32.0, 64.0, 128.0, 256.0, 512.0),
    )
    regions: PositiveInt = 512
    width: PositiveInt = 256
    hidden: PositiveInt = 1024
    masks: bool = added(False)
    recompute: bool = unhashed(True)

    @model_validator(mode="after")
    def _heads(self) -> "DetectorSettings":
        if self.masks and self.kind != "fpn":
            raise ValueError("masks are of kind fpn; a c4 has no mask head here")
        return self


class DetectionTraining(Settings):
    """How a detector is trained.

    Attributes:
        short_sides: pixels that an image's short side is resized to, drawn for each image.
        long_side: pixels that its long side is kept below.
        batch_size: images a step, also those that batch norms see together.
        lr: where it starts behind the warm-up of `step`.
        weight_decay: of all parameters but those of norms.
        precise_norm: batches of training images that the norms' statistics are computed from
            in the end (PreciseBN); 0: they stay those of training.
    """

    short_sides: Sides = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    long_side: PositiveInt = 1333
    batch_size: Annotated[int, Field(ge=2)] = 16
    iterations: PositiveInt = 24000
    lr: PositiveFloat = 0.02
    step: StepSettings = StepSettings(
        milestones=(0.75, 11 / 12), warmup_iterations=100, warmup_ratio=0.001
    )
    weight_decay: NonNegativeFloat = 1e-4
    precise_norm: Annotated[int, Field(ge=0)] = 200

    @property
    def usual_side(self) -> int:
        """The middle one of `short_sides`."""
        return sorted(self.short_sides)[len(self.short_sides) // 2]


class DetectionSchedule(Settings):
    """What is fixed for one data set.

    Attributes:
        short_side, long_side: of test images.
        score: eleven points (`voc2007`) or the whole area (`voc2012`) under VOC's curve, or COCO's
            twelve numbers (`coco`).
    """

    detector: DetectorSettings = DetectorSettings()
    training: DetectionTraining = DetectionTraining()
    short_side: PositiveInt = 800
    long_side: PositiveInt = 1333
    score: Literal["voc2007", "voc2012", "coco"] = "voc2007"

    @model_validator(mode="after")
    def _fits(self) -> "DetectionSchedule":
        if max(self.training.short_sides) > self.training.long_side:
            raise ValueError("a short side of training.short_sides is above training.long_side")
        if self.short_side > self.long_side:
            raise ValueError("short_side is above long_side")
        if self.detector.masks and self.score != "coco":
            raise ValueError(f"score {self.score} knows no masks; write score: coco")
        return self


class DetectionSettings(ProtocolSettings):
    """Detectors finetuned from a pretrained backbone; one schedule a data set."""

    metrics = (
        *(Metric(name, title, "percent") for name, title in COCO_NUMBERS.items()),
        *(
            Metric(f"mask_{name}", f"mask {title}", "percent")
            for name, title in COCO_NUMBERS.items()
        ),
    )

    kind: Literal["detection"]
    amp: Literal["off", "bf16", "fp16"] = "off"
    datasets: dict[Name, DetectionSchedule]

    def measured(self, dataset: str) -> tuple[str, ...]:
        """Names of the metrics that it measures on one of its data sets."""
        schedule = self.datasets[dataset]
        boxes = tuple(COCO_NUMBERS) if schedule.score == "coco" else VOC_NUMBERS
        return boxes + tuple(f"mask_{name}" for name in boxes if schedule.detector.masks)

    def schedule(self, dataset: str) -> str:
        """Detector, iterations and batch size."""
        schedule = self.datasets[dataset]
        detector, training = schedule.detector, schedule.training
        name = f"{'Mask' if detector.masks else 'Faster'} R-CNN {detector.kind.upper()}"
        return f"{name}, {training.iterations:,} iterations of {training.batch_size}"

"""How large the measured work is: published sizes on a GPU, small ones on a CPU."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from cp2.costs.measure import CORES, PREFETCH
from cp2.errors import UserError

PRECISIONS = ("off", "bf16", "fp16")
STAGES = ("step", "pretrain", "lightly", "detection", "numerics", "finetune", "evaluate")


@dataclass(frozen=True)
class Sizes:
    """What a benchmark's options say.

    Attributes:
        backbone, head: names in configs/models/.
        crop: pixels of a side.
        batch: samples of a step.
        workers: data loading processes (of each loader).
        steps: timed steps of a round; of evaluate, images.
        rounds: in each of which every variant is timed once.
        amp: precision of ours: "off", "bf16", "fp16".
        compile: whether our pretraining compiles its encoders.
        queue: keys that each queue of a pretraining holds.
    """

    backbone: str
    head: str
    crop: int
    batch: int
    workers: int
    steps: int
    rounds: int
    amp: str
    compile: bool = False
    queue: int = 65536

    @property
    def warmup(self) -> int:
        """Steps until batches made before the clock started are used up."""
        return max(3, PREFETCH * self.workers + 1)


_GPU = Sizes("resnet50", "deeplabv3", 224, 256, CORES, 20, 3, "bf16")
# The queue is smaller, too: beside a network this small, 65,536 keys would be most of the work.
_CPU = Sizes("resnet-tiny", "aspp-tiny", 96, 16, 1, 4, 3, "off", queue=4096)
_BY_STAGE: dict[tuple[str, str], Sizes] = {
    ("step", "cuda"): _GPU,
    ("step", "cpu"): _CPU,
    ("pretrain", "cuda"): _GPU,
    ("pretrain", "cpu"): _CPU,
    ("lightly", "cuda"): _GPU,
    ("lightly", "cpu"): replace(_CPU, backbone="resnet18", batch=64, steps=10),
    ("detection", "cuda"): replace(_GPU, crop=640, batch=8, workers=0),
    ("detection", "cpu"): replace(_CPU, backbone="resnet18", crop=192, batch=2, workers=0),
    ("numerics", "cuda"): replace(_GPU, steps=500, rounds=1),
    ("numerics", "cpu"): replace(_CPU, steps=500, rounds=1, amp="bf16"),
    ("finetune", "cuda"): replace(_GPU, crop=512, batch=16, steps=50),
    ("finetune", "cpu"): replace(_CPU, crop=128, batch=8),
    ("evaluate", "cuda"): replace(_GPU, crop=512, batch=1, steps=500),
    ("evaluate", "cpu"): replace(_CPU, crop=128, batch=1, steps=24),
}


def sizes_of(stage: str, device: torch.device, **given: Any) -> Sizes:
    """The stage's defaults on this device, with what was given (None: not given).

    Raises:
        UserError: a number below 1 (0 workers are allowed), or a batch of one image where batch
            norm needs two, or an unknown precision.
    """
    chosen = replace(
        _BY_STAGE[stage, device.type], **{k: v for k, v in given.items() if v is not None}
    )
    for field in fields(chosen):
        value = getattr(chosen, field.name)
        least = _least(stage, field.name)
        if type(value) is int and value < least:
            raise UserError(f"{stage}: --{field.name} {value}; {least} is the least")
    if chosen.amp not in PRECISIONS:
        raise UserError(f"{stage}: --amp {chosen.amp}; use one of {', '.join(PRECISIONS)}")
    return chosen


def _least(stage: str, field: str) -> int:
    if field == "batch" and stage != "evaluate":
        return 2  # batch norm of a single vector
    return 0 if field == "workers" else 1

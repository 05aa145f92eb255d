"""Object detection: Faster R-CNN on the fourth stage (C4) and Mask R-CNN on a pyramid (FPN).

As DenseCL and PixCon judge by, written on `torchvision.ops`; see `docs/fidelity.md`.
"""

from cp2.protocols.detection.evaluation import evaluate
from cp2.protocols.detection.finetuning import finetune

__all__ = ["evaluate", "finetune"]

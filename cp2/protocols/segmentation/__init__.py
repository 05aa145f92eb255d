"""Segmentation: a model finetuned with labels, scored by one confusion matrix (CP² sec. 4.1)."""

from cp2.protocols.segmentation.evaluation import evaluate
from cp2.protocols.segmentation.finetuning import finetune

__all__ = ["evaluate", "finetune"]

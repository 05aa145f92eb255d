"""Nearest positions in a plan: as the other probe."""

from cp2.plan.protocols.linear_segmentation import evaluation

__all__ = ["evaluation"]

"""Segmentation scores from one confusion matrix over all images."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cp2.data.labels import IGNORE
from cp2.errors import UserError

Matrix = npt.NDArray[np.int64]  # (K, K): rows are labels, columns predictions, in pixels


class ConfusionMatrix:
    """Counts pixels by label and prediction, image by image, without waiting for the device.

    Labels are not checked: they were when the data set was prepared.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self._classes = num_classes
        # The last cell takes the ignored pixels: leaving them out would need their number.
        self._counts = torch.zeros(num_classes**2 + 1, dtype=torch.int64, device=device)

    def add(self, prediction: Tensor, label: Tensor) -> None:
        """Both integer (H, W); pixels whose label is IGNORE do not count."""
        cells = label.long() * self._classes + prediction
        cells = torch.where(label == IGNORE, self._counts.numel() - 1, cells).flatten()
        # bincount would wait for the device, to ask for the largest value.
        self._counts.scatter_add_(0, cells, torch.ones_like(cells))

    def matrix(self) -> Matrix:
        """The counts so far."""
        counts = self._counts[:-1].view(self._classes, self._classes)
        return counts.cpu().numpy()


def score(matrix: Matrix) -> tuple[dict[str, float], list[float | None]]:
    """Scores of a confusion matrix, shares of one.

    Returns:
        miou: mean of the IoU over the classes that labels or predictions hold; accuracy: share of
        all labelled pixels that are right; mean_accuracy: mean over the labelled classes of the
        share that is right. And each class's IoU, intersection over union; None for a class that
        neither labels nor predictions hold.
    Raises:
        UserError: not one pixel is labelled.
    """
    if not matrix.any():
        raise UserError(
            f"not one pixel is labelled (all are {IGNORE}), so there is nothing to score; "
            "check the data set's label pictures"
        )
    right = np.diag(matrix).astype(float)
    labelled, predicted = matrix.sum(1), matrix.sum(0)
    union = labelled + predicted - right
    iou = [float(r / u) if u else None for r, u in zip(right, union, strict=True)]
    metrics = {
        "miou": float(np.mean([value for value in iou if value is not None])),
        "accuracy": float(right.sum() / matrix.sum()),
        "mean_accuracy": float(np.mean(right[labelled > 0] / labelled[labelled > 0])),
    }
    return metrics, iou

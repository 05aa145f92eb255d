"""Scores against a slow loop and against torchmetrics' own."""

import numpy as np
import pytest
import torch

from cp2.data.labels import IGNORE
from cp2.errors import UserError
from cp2.protocols.segmentation.scores import ConfusionMatrix, score

CPU = torch.device("cpu")


def count(predictions: list[torch.Tensor], labels: list[torch.Tensor], classes: int) -> np.ndarray:
    confusion = ConfusionMatrix(classes, CPU)
    for prediction, label in zip(predictions, labels, strict=True):
        confusion.add(prediction, label)
    return confusion.matrix()


@pytest.fixture
def images() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Two images of different sizes; class 3 is in neither labels nor predictions."""
    torch.manual_seed(0)
    predictions = [torch.randint(0, 3, (5, 7)), torch.randint(0, 3, (4, 3))]
    labels = [torch.randint(0, 3, (5, 7)), torch.randint(0, 3, (4, 3))]
    labels[0][1] = IGNORE
    return predictions, labels


def test_matrix_against_a_slow_loop(
    images: tuple[list[torch.Tensor], list[torch.Tensor]],
) -> None:
    expected = np.zeros((4, 4), dtype=np.int64)
    for prediction, label in zip(*images, strict=True):
        for i, j in np.ndindex(*label.shape):
            if label[i, j] != IGNORE:
                expected[label[i, j], prediction[i, j]] += 1
    found = count(*images, classes=4)
    assert found.dtype == np.int64
    assert (found == expected).all()


def test_scores_against_a_slow_loop(
    images: tuple[list[torch.Tensor], list[torch.Tensor]],
) -> None:
    prediction = torch.cat([p.flatten() for p in images[0]])
    label = torch.cat([p.flatten() for p in images[1]])
    prediction, label = prediction[label != IGNORE], label[label != IGNORE]
    ious, recalls = [], []
    for c in range(3):
        both = int(((prediction == c) & (label == c)).sum())
        either = int(((prediction == c) | (label == c)).sum())
        ious.append(both / either)
        recalls.append(both / int((label == c).sum()))
    metrics, per_class = score(count(*images, classes=4))
    assert per_class == [*(pytest.approx(iou) for iou in ious), None]
    right = float((prediction == label).float().mean())
    expected = {"miou": sum(ious) / 3, "accuracy": right, "mean_accuracy": sum(recalls) / 3}
    assert metrics == pytest.approx(expected)


def test_matrix_equals_torchmetrics(
    images: tuple[list[torch.Tensor], list[torch.Tensor]],
) -> None:
    from torchmetrics.classification import MulticlassConfusionMatrix

    metric = MulticlassConfusionMatrix(4, ignore_index=IGNORE)
    for prediction, label in zip(*images, strict=True):
        metric.update(prediction, label)
    labels = [label.to(torch.uint8) for label in images[1]]  # as label files are read
    assert count(images[0], labels, classes=4).tolist() == metric.compute().tolist()


def test_largest_class_is_not_taken_for_ignored_pixels() -> None:
    prediction = torch.tensor([[254, 254, 0]])
    label = torch.tensor([[254, IGNORE, IGNORE]], dtype=torch.uint8)
    matrix = count([prediction], [label], classes=255)
    assert matrix[254, 254] == matrix.sum() == 1


def test_per_class_equals_torchmetrics(
    images: tuple[list[torch.Tensor], list[torch.Tensor]],
) -> None:
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(4, ignore_index=IGNORE, average="none")
    for prediction, label in zip(*images, strict=True):
        metric.update(prediction, label)
    _, found = score(count(*images, classes=4))
    assert [value or 0.0 for value in found] == pytest.approx(metric.compute().tolist())


def test_absent_and_wrongly_predicted_classes() -> None:
    # class 0 is right, class 1 is predicted where 0 is the label, class 2 is nowhere
    matrix = np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]])
    metrics, per_class = score(matrix)
    assert per_class == [0.75, 0.0, None]
    assert metrics["miou"] == 0.375  # over the two classes that labels or predictions hold
    assert metrics["mean_accuracy"] == 0.75  # over the labelled class


def test_nothing_labelled() -> None:
    prediction, label = torch.zeros(2, 2, dtype=torch.long), torch.full((2, 2), IGNORE)
    with pytest.raises(UserError, match="not one pixel is labelled"):
        score(count([prediction], [label], classes=3))

"""PASCAL VOC's average precision as detectron2's evaluator computes it, conventions included.

Detections are rounded as its text files are, sides of boxes count both end pixels, and a detection
belongs to the object that it overlaps most, even where that one is taken or difficult.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))  # of the overlap

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Truth(NamedTuple):
    """All objects of a split.

    Attributes:
        images, classes: (G,) indices.
        boxes: (G, 4) as annotated: x0, y0, x1, y1 of pixels counted from 1, both ends inside.
        difficult: (G,) counted neither as found nor as missed.
    """

    images: Ints
    classes: Ints
    boxes: Floats
    difficult: Bools


class Found(NamedTuple):
    """All detections, image by image in the order of the split.

    Attributes:
        images, classes: (D,) indices.
        scores: (D,).
        boxes: (D, 4) as the network gives them, counted from 0, the right end outside.
    """

    images: Ints
    classes: Ints
    scores: Floats
    boxes: Floats


def voc_average_precision(truth: Truth, found: Found, classes: int, area: bool = False) -> Floats:
    """Average precision (classes, 10) at overlaps of .5 to .95, shares of one.

    NaN for a class without an object that is not difficult; 0 for one without detections.

    Args:
        area: VOC 2012's area under the curve; else VOC 2007's mean at eleven recalls.
    """
    scores = _rounded(found.scores, 3)
    boxes = _rounded(found.boxes + np.array([1.0, 1.0, 0.0, 0.0]), 1)
    result = np.full((classes, len(THRESHOLDS)), np.nan)
    for number in range(classes):
        objects, rows = truth.classes == number, np.flatnonzero(found.classes == number)
        count = int((objects & ~truth.difficult).sum())
        if not count:
            continue
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        best, overlap = _best_objects(
            truth, np.flatnonzero(objects), found.images[rows], boxes[rows]
        )
        for column, threshold in enumerate(THRESHOLDS):
            right, wrong = _judged(best, overlap > threshold, truth.difficult)
            right, wrong = right.cumsum(), wrong.cumsum()
            recall = right / count
            precision = right / np.maximum(right + wrong, np.finfo(np.float64).eps)
            curve = area_under if area else eleven_points
            result[number, column] = curve(recall, precision)
    return result


def _rounded(values: Floats, digits: int) -> Floats:
    """As printed: of the decimal number itself, which NumPy's rounding is not always."""
    texts = [f"{value:.{digits}f}" for value in values.ravel().tolist()]
    return np.array(texts, np.float64).reshape(values.shape)


def _best_objects(truth: Truth, objects: Ints, images: Ints, boxes: Floats) -> tuple[Ints, Floats]:
    """The object of its image that each detection overlaps most, -1 where there is none, and how
    much."""
    best, overlap = np.full(len(boxes), -1), np.full(len(boxes), -np.inf)
    of_image: dict[int, list[int]] = {}
    for row in objects.tolist():
        of_image.setdefault(int(truth.images[row]), []).append(row)
    for row, (image, box) in enumerate(zip(images.tolist(), boxes, strict=True)):
        if rows := of_image.get(image):
            shares = _overlaps(box, truth.boxes[rows])
            place = int(shares.argmax())
            best[row], overlap[row] = rows[place], shares[place]
    return best, overlap


def _overlaps(box: Floats, others: Floats) -> Floats:
    """Intersection over union of a box with others (n, 4), both end pixels inside."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = (high - low + 1).clip(min=0).prod(1)
    own = (box[2:] - box[:2] + 1).prod()
    union = own + (others[:, 2:] - others[:, :2] + 1).prod(1) - common
    shares: Floats = common / union
    return shares


def _judged(best: Ints, near: Bools, difficult: Bools) -> tuple[Bools, Bools]:
    """Which detections are right and which are wrong; neither are those of difficult objects."""
    right, wrong = np.zeros(len(best), bool), ~near
    taken: set[int] = set()
    for row in np.flatnonzero(near).tolist():
        found = int(best[row])
        if difficult[found]:
            continue
        (wrong if found in taken else right)[row] = True
        taken.add(found)
    return right, wrong


def eleven_points(recall: Floats, precision: Floats) -> float:
    """VOC 2007: the mean of the best precision at recalls of at least 0, .1, ... 1."""
    points = [precision[recall >= least].max(initial=0.0) for least in np.arange(0.0, 1.1, 0.1)]
    return min(1.0, float(sum(point / 11.0 for point in points)))  # eleven elevenths round above 1


def area_under(recall: Floats, precision: Floats) -> float:
    """VOC 2012: the area under the curve of the best precision at no less recall."""
    envelope = np.maximum.accumulate(np.append(precision, 0.0)[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    return float((steps * envelope[: len(steps)]).sum())
